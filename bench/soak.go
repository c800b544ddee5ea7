package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// The sizes of a soak.
const (
	soakUsers    = 2000
	soakReload   = 10 * time.Second
	soakKill     = 7 * time.Second
	soakMeasures = 40
	// soakBound is how long after a change a verdict may be outdated: a poll, and
	// some time for a busy machine. Without the watch it is soakBlind.
	soakBound = poll + 2*time.Second
	soakBlind = 5*time.Second + soakBound
)

// soakConfig is a Caddyfile.
const soakConfig = `{
	admin %s
	persist_config off
	auto_https disable_redirects
	skip_install_trust
	grace_period 5s
	log {
		format json
		output file %s {
			roll_disabled
		}
	}
}
http://%s, https://%s {
	tls internal
	header X-Reload 0
	bench_memory %s
	%s {
		on_error deny
		timeout 500ms
	}
	reverse_proxy %s {
		stream_close_delay 5s
		transport http {
			keepalive 2s
		}
	}
}
`

// soaked is a user as in the database.
type soaked struct {
	session string
	mu      sync.Mutex
	exists  bool
	since   time.Time // the acknowledgement of the last change
	busy    bool      // a change is under way
	// absences are in order. They are read once nothing changes any more.
	absences []absence
}

// state returns whether the user exists, since when, and whether that changes.
func (u *soaked) state() (exists bool, since time.Time, busy bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.exists, u.since, u.busy
}

// soak runs Caddy with the module under load, while users are deleted and
// inserted again, the configuration is reloaded and the connections of the watch
// are killed. It compares each response with the state that the database has had
// for long enough.
func (b *bed) soak(ctx context.Context, d time.Duration) error {
	ctx, stop := context.WithTimeout(ctx, d)
	defer stop()
	s := &soaking{bed: b, users: make([]soaked, soakUsers)}
	for i := range s.users {
		made, err := sessionV4(subject(i))
		if err != nil {
			return err
		}
		s.users[i].session, s.users[i].exists = made, true
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.crowd(ctx, b.options.crowd); err != nil {
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	clients := s.protocols()
	for _, c := range clients {
		for range 3 {
			work.Go(func() error { return s.ask(ctx, c) })
		}
	}
	gone, err := sessionV4(subject(gone))
	if err != nil {
		return err
	}
	for _, c := range clients {
		for _, kind := range []struct {
			what *atomic.Int64
			do   func(context.Context, *client, string) (int, error)
		}{{&s.streams.events, events}, {&s.streams.uploads, upload}, {&s.streams.sockets, socket}} {
			if kind.what == &s.streams.sockets && c != clients["HTTP/1.1"] {
				continue // the client knows no other version
			}
			work.Go(func() error { return s.stream(ctx, c, s.users[1].session, true, kind.what, kind.do) })
			work.Go(func() error { return s.stream(ctx, c, gone, false, kind.what, kind.do) })
		}
	}
	kinds, _ := streamKinds()
	for n := range s.users {
		work.Go(func() error { return s.hold(ctx, n, kinds[n/2%len(kinds)]) }) // of both who are deleted and who are not
	}
	for lane := range 2 {
		work.Go(func() error { return s.change(ctx, lane) })
	}
	work.Go(func() error { return s.every(ctx, soakReload, s.reload) })
	work.Go(func() error { return s.every(ctx, soakKill, s.kill) })
	work.Go(func() error { return s.every(ctx, d/soakMeasures, s.measure) })
	err = work.Wait()
	err = errors.Join(err, s.check())
	fmt.Println(s.streams.String())
	fmt.Println(s.held.String())
	for version, c := range clients {
		fmt.Printf("%s: %d requests\n", version, c.asked.Load())
		if c.asked.Load() == 0 {
			err = errors.Join(err, fmt.Errorf("no response by %s", version))
		}
	}
	fmt.Printf("%d requests, %d changes, %d reloads, %d connections of the watch killed, %d connections broken, %d sessions not checked in time: %d live ones ended, %d stale ones admitted\n",
		s.requests.Load(), s.changes.Load(), s.reloads.Load(), s.kills.Load(), s.broken.Load(), s.unknown.Load(), s.ended.Load(), s.admitted.Load())
	if err == nil && s.ended.Load()+s.admitted.Load()+s.held.wrong.Load()+s.held.left.Load() > 0 {
		err = errors.New("there were wrong verdicts")
	}
	return errors.Join(err, s.flat())
}

// soaking is a running soak.
type soaking struct {
	bed           *bed
	users         []soaked
	caddy         *process
	url, secure   string // of the site, by HTTP/1.1 and by HTTP/2 and 3
	admin         string
	config        string
	heaps, counts []int // live memory and goroutines, in order
	streams       streamed
	held          held

	requests, changes, reloads, kills, killed, broken, unknown, ended, admitted atomic.Int64
}

// start starts Caddy, with an admin endpoint.
func (s *soaking) start(ctx context.Context) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	if s.admin, err = freeAddress(ctx); err != nil {
		return err
	}
	secure, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.url, s.secure = "http://"+address, "https://"+secure
	// After a reload Caddy keeps idle connections of the old proxy to the app,
	// two goroutines each, for two minutes by default.
	s.config = fmt.Sprintf(soakConfig, s.admin, s.endedLog(), address, secure, collectAt, guarded, s.bed.app)
	file, err := s.bed.write("soak.Caddyfile", s.config)
	if err != nil {
		return err
	}
	s.caddy, err = s.bed.startServer(ctx, address, nil, s.bed.options.caddy, "run", "--config", file, "--adapter", "caddyfile")
	return err
}

// every calls a function at an interval.
func (s *soaking) every(ctx context.Context, d time.Duration, do func(context.Context) error) error {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := do(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// ask sends sessions of random users and checks the responses.
func (s *soaking) ask(ctx context.Context, c *client) error {
	for ctx.Err() == nil {
		u := &s.users[rand.IntN(len(s.users))]
		before, since, busy := u.state()
		began := time.Now()
		status, err := c.ask(ctx, u.session)
		if err != nil { // a reload breaks some
			s.broken.Add(1)
			continue
		}
		s.requests.Add(1)
		c.asked.Add(1)
		after, same, changing := u.state()
		settled := !busy && !changing && before == after && since.Equal(same) && began.Sub(since) > s.bound(since)
		if settled && status != http.StatusServiceUnavailable && before != (status == http.StatusOK) {
			fmt.Printf("wrong verdict: status %d, %s after the change, %s after the watch was killed\n", status, began.Sub(since), began.Sub(time.Unix(0, s.killed.Load())))
		}
		switch {
		case status == http.StatusServiceUnavailable: // the database did not answer in time
			s.unknown.Add(1)
		case status != http.StatusOK && status != http.StatusUnauthorized:
			return fmt.Errorf("status %d", status)
		case settled && before && status != http.StatusOK:
			s.ended.Add(1)
		case settled && !before && status == http.StatusOK:
			s.admitted.Add(1)
		}
	}
	return nil
}

// change deletes users and inserts them again. It leaves half of them alone.
func (s *soaking) change(ctx context.Context, lane int) error {
	conn, err := pgx.Connect(ctx, s.bed.postgres.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		n := rand.IntN(len(s.users)/4)*4 + 2*lane
		u := &s.users[n]
		u.mu.Lock()
		u.busy = true
		if u.exists {
			u.absences = append(u.absences, absence{from: time.Now()})
		}
		u.mu.Unlock()
		if u.exists {
			_, err = conn.Exec(ctx, `delete from "User" where id = $1`, subject(n))
		} else {
			_, err = conn.Exec(ctx, `insert into "User" (id, email) values ($1, $1)`, subject(n))
		}
		if err != nil {
			break
		}
		u.mu.Lock()
		u.exists, u.since, u.busy = !u.exists, time.Now(), false
		if u.exists {
			u.absences[len(u.absences)-1].until = u.since
		}
		u.mu.Unlock()
		s.changes.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(20 * time.Millisecond)):
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// reload loads a changed configuration, every second time one that needs new
// connections to the database.
func (s *soaking) reload(ctx context.Context) error {
	n := s.reloads.Add(1)
	config := strings.Replace(s.config, "X-Reload 0", "X-Reload "+strconv.FormatInt(n, 10), 1)
	config = strings.Replace(config, "timeout 500ms", fmt.Sprintf("timeout %dms", 500+n/2%2), 1)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.admin+"/load", strings.NewReader(config))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "text/caddyfile")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("a reload: %d %s", response.StatusCode, bytes.TrimSpace(text))
	}
	return nil
}

// kill closes the connection of the watch.
func (s *soaking) kill(ctx context.Context) error {
	s.kills.Add(1)
	s.killed.Store(time.Now().UnixNano())
	return s.bed.postgres.Exec(ctx, "postgres", `select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_current_snapshot%' and pid <> pg_backend_pid()`)
}

var goroutines = regexp.MustCompile(`goroutine profile: total (\d+)`)

// measure records the memory and the goroutines of Caddy, unless a reload breaks the
// connection.
func (s *soaking) measure(ctx context.Context) error {
	h, err := target{url: s.url + "/admin", collects: true}.heap(ctx)
	if err != nil {
		s.broken.Add(1)
		return nil //nolint:nilerr // a reload breaks it
	}
	_, text, err := ask(ctx, "http://"+s.admin+"/debug/pprof/goroutine?debug=1", "")
	if err != nil {
		s.broken.Add(1)
		return nil //nolint:nilerr // a reload breaks it
	}
	match := goroutines.FindStringSubmatch(text)
	if match == nil {
		return errors.New("the admin endpoint does not list goroutines")
	}
	count, err := strconv.Atoi(match[1])
	s.heaps, s.counts = append(s.heaps, h.Live), append(s.counts, count)
	fmt.Printf("%8d requests  %6.1f MiB live  %4d goroutines  %4d streams held\n", s.requests.Load(), float64(h.Live)/(1<<20), count, s.held.open.Load())
	return err
}

// flat returns an error if memory or goroutines have grown from the second
// quarter of the time to the last one by more than they vary.
func (s *soaking) flat() error {
	quarter := len(s.heaps) / 4
	if quarter == 0 {
		return errors.New("the soak was too short to tell whether memory is flat")
	}
	for name, values := range map[string][]int{"live memory": s.heaps, "the number of goroutines": s.counts} {
		early, late := mean(values[quarter:2*quarter]), mean(values[len(values)-quarter:])
		fmt.Printf("%s: %.0f early, %.0f late\n", name, early, late)
		if late > early*1.2 {
			return fmt.Errorf("%s has grown", name)
		}
	}
	return nil
}

func mean(values []int) float64 {
	sum := 0
	for _, v := range values {
		sum += v
	}
	return float64(sum) / float64(len(values))
}
