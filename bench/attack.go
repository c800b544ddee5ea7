package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

const (
	// attackLarge is nearly the length of the longest cookie that the module reads.
	attackLarge = 60 << 10
	// attackUsers is the number of connections of good users during an attack.
	attackUsers = 4
	// forgedSecret is not the app's secret.
	forgedSecret = "a secret of somebody else's"
)

// attack is a kind of request, with the measurements of each round.
type attack struct {
	name     string
	sessions sessions
	base     int       // the kind that it is compared with
	cpu, p99 []float64 // µs of CPU a request; ms that good users wait beside it
	resident int       // bytes, the most
}

// measureAttack measures what bad requests cost compared to good ones of the
// same size, and how long good users wait during an attack. It compares that
// with how long they wait during as many good requests, which keep the machine
// as busy.
func (b *bed) measureAttack(ctx context.Context) (string, error) {
	good := b.v4.part(0, few)
	kinds := []*attack{{name: "good sessions, known", sessions: good}}
	for _, k := range []struct {
		name        string
		base, count int
		mint        func(string) (string, error)
	}{
		{"garbage in the cookie", 0, few, func(string) (string, error) { return "theme=dark; " + cookieV4 + "=" + letters(240), nil }},
		{"forged tokens, all different", 0, b.options.Sessions, func(subject string) (string, error) {
			token, err := mint.V4(forgedSecret, claims(subject))
			return "theme=dark; " + cookieV4 + "=" + token, err
		}},
		{"good sessions of 60 KiB, known", 3, 100, func(subject string) (string, error) { return largeToken(secret, subject) }},
		{"forged tokens of 60 KiB", 3, few, func(subject string) (string, error) { return largeToken(forgedSecret, subject) }},
	} {
		s, err := writeSessions(filepath.Join(b.dir, fmt.Sprint("attack", len(kinds))), k.count, k.mint)
		if err != nil {
			return "", err
		}
		kinds = append(kinds, &attack{name: k.name, sessions: s, base: k.base})
	}
	t, err := b.startAttacked(ctx)
	if err != nil {
		return "", err
	}
	for round := range b.options.Rounds {
		fmt.Printf("Round %d of %d …\n", round+1, b.options.Rounds)
		for i := range kinds {
			if err := b.attack(ctx, t, kinds[(round+i)%len(kinds)], good); err != nil {
				return "", err
			}
		}
	}
	return attackTable(kinds), nil
}

// startAttacked starts a Caddy with the module that accepts large headers.
func (b *bed) startAttacked(ctx context.Context) (target, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return target{}, err
	}
	file, err := b.write("attack.Caddyfile", fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tskip_install_trust\n\tservers {\n\t\tmax_header_size 1MB\n\t}\n\tlog {\n\t\tlevel ERROR\n\t}\n}\nhttp://%s {\n\t%s\n\treverse_proxy %s\n}\n", address, guarded, b.app))
	if err != nil {
		return target{}, err
	}
	p, err := b.startServer(ctx, address, nil, b.options.caddy, "run", "--config", file, "--adapter", "caddyfile")
	return target{url: "http://" + address + "/admin", processes: []*process{p}}, err
}

// attack measures one kind in one round: alone, and together with good users.
func (b *bed) attack(ctx context.Context, t target, k *attack, good sessions) error {
	if _, err := b.load(ctx, t.url, k.sessions, true, b.options.Connections, warmUp); err != nil {
		return err
	}
	before, err := b.used(t)
	if err != nil {
		return err
	}
	alone, err := b.load(ctx, t.url, k.sessions, true, b.options.Connections, b.options.Seconds)
	if err != nil {
		return err
	}
	after, err := b.used(t)
	if err != nil {
		return err
	}
	k.cpu = append(k.cpu, in(time.Microsecond, after.own-before.own)/float64(alone.Requests))
	k.resident = max(k.resident, after.resident)
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		_, err := b.load(ctx, t.url, k.sessions, true, b.options.Connections, b.options.Seconds+1)
		return err
	})
	both.Go(func() error {
		users, err := b.load(ctx, t.url, good, true, attackUsers, b.options.Seconds)
		k.p99 = append(k.p99, users.P99/1000)
		return err
	})
	return both.Wait()
}

// attackTable returns a table in Markdown: medians over the rounds, of the
// values and of ratios within a round.
func attackTable(kinds []*attack) string {
	var text strings.Builder
	text.WriteString("| requests | CPU µs | ÷ good | good users' p99 beside them, ms | ÷ beside good | MiB |\n|---|---|---|---|---|---|\n")
	ratio := func(values, base []float64) string {
		ratios := make([]float64, len(values))
		for i := range values {
			ratios[i] = values[i] / base[i]
		}
		low, high := interval(ratios)
		return fmt.Sprintf("%.2f [%.2f, %.2f]", median(ratios), low, high)
	}
	for _, k := range kinds {
		fmt.Fprintf(&text, "| %s | %.1f | %s | %.2f | %s | %d |\n", k.name,
			median(k.cpu), ratio(k.cpu, kinds[k.base].cpu), median(k.p99), ratio(k.p99, kinds[k.base].p99), k.resident>>20)
	}
	return text.String()
}

// largeToken returns a session whose token is nearly as long as the module reads.
func largeToken(secret, subject string) (string, error) {
	c := claims(subject)
	c["accessToken"] = letters(attackLarge * 3 / 4)
	token, err := mint.V4(secret, c)
	return cookieV4 + "=" + token, err
}

// letters returns random letters.
func letters(n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = 'a' + byte(rand.IntN(26))
	}
	return string(text)
}
