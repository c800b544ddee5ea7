package stalesession

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// blackHole is a directory and a store of revocations that answer nothing once
// they hang.
type blackHole struct {
	hangs, confirms atomic.Bool // all, or what would confirm an absence
	gone            atomic.Bool
}

func (*blackHole) String() string { return "a black hole" }

func (b *blackHole) Lookup(ctx context.Context, queries []directories.Query) ([]directories.Account, error) {
	if b.hangs.Load() || b.confirms.Load() && !queries[0].Since.IsZero() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	found := make([]directories.Account, len(queries))
	for i := range found {
		found[i].Exists = !b.gone.Load()
	}
	return found, nil
}

func (b *blackHole) Put(ctx context.Context, _ []revocation.Revocation) error {
	<-ctx.Done()
	return ctx.Err()
}

func (b *blackHole) Follow(ctx context.Context, merge func([]revocation.Revocation, bool)) error {
	if !b.hangs.Load() {
		merge(nil, true)
	}
	<-ctx.Done()
	return ctx.Err()
}

// The clock of these tests stands still but for what waits for it, so that they
// take no time, and a slow machine changes nothing.
func TestARequestWaitsForOneTimeoutAndForOneMoreOnceTheAppHasAnswered(t *testing.T) {
	t.Parallel()
	const timeout, secret, cookie = 400 * time.Millisecond, "a secret", "next-auth.session-token"
	token := func(subject string, age time.Duration) string {
		made, err := mint.V4(secret, map[string]any{"sub": subject, "iat": time.Now().Add(-age).Unix()})
		if err != nil {
			t.Error(err)
		}
		return made
	}
	type answer struct {
		status int
		sets   []string
	}
	for name, c := range map[string]struct {
		cookies       func() string
		prepare       func(*blackHole) // before the request
		during        func(*blackHole) // while the app has it
		app           func() answer
		before, after time.Duration
	}{
		"nothing hangs": {
			app: func() answer { return answer{500, []string{token("ada", 0)}} },
		},
		"the first request, with revocations and users in a black hole": {
			prepare: func(b *blackHole) { b.hangs.Store(true) },
			before:  timeout,
		},
		"several sessions": {
			cookies: func() string {
				return cookie + "=" + token("ada", time.Hour) + "; " + cookie + ".x=" + token("bob", time.Hour) + "; " + cookie + "=" + token("eve", time.Hour)
			},
			prepare: func(b *blackHole) { b.hangs.Store(true) },
			before:  timeout,
		},
		"a user who is not found, and then not confirmed": {
			prepare: func(b *blackHole) { b.gone.Store(true); b.confirms.Store(true) },
			before:  timeout,
		},
		"a rescue": {
			during: func(b *blackHole) { b.hangs.Store(true) },
			app:    func() answer { return answer{500, nil} },
			after:  timeout,
		},
		"a 5xx that renews": {
			during: func(b *blackHole) { b.hangs.Store(true) },
			app:    func() answer { return answer{500, []string{token("ada", 0)}} },
			after:  timeout,
		},
		"a response that sets another session": {
			during: func(b *blackHole) { b.hangs.Store(true) },
			app:    func() answer { return answer{200, []string{token("bob", 0)}} },
			after:  timeout,
		},
		"a 5xx that sets several": {
			during: func(b *blackHole) { b.hangs.Store(true) },
			app:    func() answer { return answer{503, []string{token("bob", 0), token("eve", 0), token("ada", 0)}} },
			after:  timeout,
		},
		"a rescue that finds nobody, and cannot confirm it": {
			during: func(b *blackHole) { b.gone.Store(true); b.confirms.Store(true) },
			app:    func() answer { return answer{500, []string{token("ada", 0)}} },
			after:  timeout,
		},
		"all of it, where nobody waits once the circuit is open": {
			prepare: func(b *blackHole) { b.hangs.Store(true) },
			app:     func() answer { return answer{500, []string{token("bob", 0), token("ada", 0)}} },
			before:  timeout,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hole := new(blackHole)
				if c.prepare != nil {
					c.prepare(hole)
				}
				h := handlerOf(t, hole, secret, timeout)
				cookies := cookie + "=" + token("ada", time.Hour)
				if c.cookies != nil {
					cookies = c.cookies()
				}
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodGet, "/admin", http.NoBody)
				r.Header.Set("Cookie", cookies)
				r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
				arrived := time.Now()
				var passed, answered time.Time
				err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					passed = time.Now()
					time.Sleep(time.Hour) // the app's own time does not count
					if c.during != nil {
						c.during(hole)
					}
					said := answer{status: http.StatusOK}
					if c.app != nil {
						said = c.app()
					}
					for i, token := range said.sets {
						w.Header().Add("Set-Cookie", cookie+string(rune('a'+i))+"="+token)
					}
					answered = time.Now()
					w.WriteHeader(said.status)
					return nil
				}))
				if err != nil || passed.IsZero() {
					t.Fatalf("the request did not pass: %v", err)
				}
				if got := passed.Sub(arrived); got != c.before {
					t.Errorf("it waits %s for the app, want %s", got, c.before)
				}
				if got := time.Since(answered); got != c.after {
					t.Errorf("it waits %s after the app, want %s", got, c.after)
				}
			})
		})
	}
}

// handlerOf returns a handler whose users and revocations are in a black hole.
func handlerOf(t *testing.T, hole *blackHole, secret string, timeout time.Duration) *Handler {
	t.Helper()
	return newHandler(t, accounts.Open(hole, accounts.Config{Timeout: timeout, Poll: -1}), hole, secret, timeout)
}

// newHandler returns a handler without a configuration.
func newHandler(t *testing.T, engine *accounts.Engine, store revocation.Store, secret string, timeout time.Duration) *Handler {
	t.Helper()
	h := &Handler{mode: modeEnforce}
	env := environment.New()
	if err := h.provisionAnswers(env, nil); err != nil {
		t.Fatal(err)
	}
	reader, err := session.New(session.Config{Secrets: []string{secret}})
	if err != nil {
		t.Fatal(err)
	}
	revoked := revocation.Open(revocation.Config{Users: "users", Local: store, Logger: zap.NewNop})
	h.validator = &validator{reader: reader, revoked: revoked, accounts: engine, timeout: timeout}
	if h.reporter, err = telemetry.NewReporter(telemetry.Detections{Logger: zap.NewNop(), Mode: h.mode}, session.DefaultSubject); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		reader.Close()
		h.reporter.Close()
		for _, end := range []func() error{revoked.Close, engine.Close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	})
	return h
}
