package stalesession

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// table is a users table behind a gate.
type table struct {
	mu             sync.Mutex
	users          map[string]directories.Account
	commits, epoch int
	ahead          time.Duration // its clock
}

func (*table) String() string { return "a table" }

func (d *table) Lookup(_ context.Context, queries []directories.Query) ([]directories.Account, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := make([]directories.Account, len(queries))
	for i, q := range queries {
		found[i] = d.users[string(q.Subject)]
	}
	return found, nil
}

func (d *table) Watch(context.Context, func(...string)) (directories.Watch, error) { return d, nil }

func (d *table) Wait(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (d *table) Read(context.Context) (directories.Reading, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return directories.Reading{Value: strconv.Itoa(d.commits), Epoch: strconv.Itoa(d.epoch), Clock: time.Now().Add(d.ahead)}, nil
}

func (*table) Close() error { return nil }

// created commits a user who is created now, after a reset or not.
func (d *table) created(subject string, reset bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.commits++; reset {
		d.epoch++
	}
	d.users[subject] = directories.Account{Exists: true, CreatedAt: time.Now().Add(d.ahead)}
}

// TestASessionThatWasNeverSeenEndsAfterAReset is about a session that another Caddy
// has seen, if any: this one can compare nothing but its iat.
func TestASessionThatWasNeverSeenEndsAfterAReset(t *testing.T) {
	t.Parallel()
	const secret, cookie = "a secret", "next-auth.session-token"
	token := func(subject string, at time.Time) string {
		made, err := mint.V4(secret, map[string]any{"sub": subject, "iat": at.Unix()})
		if err != nil {
			t.Error(err)
		}
		return cookie + "=" + made
	}
	for name, c := range map[string]struct {
		polls         int // of an open tab
		database, app time.Duration
		reset         bool
		age           time.Duration // of the session when its account is created
		want          int
	}{
		"after a reset":                            {9, 0, 0, true, 20 * time.Second, 401},
		"after a reset, with clocks that differ":   {9, 10 * time.Second, -10 * time.Second, true, 35 * time.Second, 401},
		"without a reset":                          {9, 0, 0, false, 20 * time.Second, 200},
		"a sign-up after a reset":                  {9, 0, 0, true, 0, 200},
		"a sign-up with clocks that differ":        {9, 10 * time.Second, -10 * time.Second, true, 0, 200},
		"after a reset, by clocks nobody measured": {2, 0, 0, true, 20 * time.Second, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				users := &table{users: map[string]directories.Account{"1": {Exists: true, CreatedAt: time.Now().Add(-time.Hour)}}, ahead: c.database}
				h := newHandler(t, accounts.Open(users, accounts.Config{}), new(blackHole), secret, time.Second)
				get := func(cookies string, sets ...string) int {
					w := httptest.NewRecorder()
					r := httptest.NewRequest(http.MethodGet, "/admin", http.NoBody)
					r.Header.Set("Cookie", cookies)
					r.Header.Set("Accept", "application/json")
					r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
					if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
						time.Sleep(50 * time.Millisecond)
						w.Header()["Set-Cookie"] = sets
						w.WriteHeader(http.StatusOK)
						return nil
					})); err != nil {
						t.Error(err)
					}
					return w.Code
				}
				time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
				tab := token("1", time.Now().Add(c.app))
				for range c.polls {
					if got := get(tab, token("1", time.Now().Add(c.app))); got != http.StatusOK {
						t.Fatalf("before: status %d", got)
					}
					time.Sleep(10*time.Second + 77*time.Millisecond)
				}
				users.created("2", c.reset)
				session := token("2", time.Now().Add(c.app-c.age))
				time.Sleep(time.Second) // it is noticed
				if got := get(session); got != c.want {
					t.Errorf("status %d, want %d", got, c.want)
				}
			})
		})
	}
}
