package stalesession

import (
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/sessiontable"
	"github.com/seed-4adef13c/caddy-stale-session/internal/streams"
)

// stored is a format of sessions that are kept in a table: the cookie sid is
// "<user>.<session>".
type stored struct{}

func (stored) Owns(name, _ string) bool { return name == "sid" }
func (stored) Headers() []string        { return nil }
func (stored) Readings(parts []formats.Part) []formats.Reading {
	return formats.Values(parts, "sid")
}

func (stored) Decode(text string, now time.Time) (formats.Session, error) {
	user, id, _ := strings.Cut(text, ".")
	return formats.Session{Subject: user, ID: id, MadeAt: now.Add(-time.Hour), Claims: map[string]any{}}, nil
}

// newStoredHandler returns a handler of users and of the rows of their sessions.
func newStoredHandler(t *testing.T, users, rows *table, config accounts.Config) *Handler {
	t.Helper()
	open := streams.NewRegistry()
	config.Streams = open
	h := newHandler(t, accounts.Open(users, config), new(blackHole), "a secret", time.Minute)
	h.streams = open
	reader, err := session.New(session.Config{Formats: []formats.Format{stored{}}})
	if err != nil {
		t.Fatal(err)
	}
	sessions := sessiontable.Open(rows, config, true)
	t.Cleanup(func() {
		reader.Close()
		if err := sessions.Close(); err != nil {
			t.Error(err)
		}
	})
	h.validator.reader, h.validator.evidence = reader, reader.NewEvidence()
	h.validator.sessions = []*sessiontable.Table{sessions}
	return h
}

// openEvents opens an event stream, and returns a channel that is closed when it ends.
func openEvents(t *testing.T, h *Handler, sid string) <-chan struct{} {
	t.Helper()
	w, ended := httptest.NewRecorder(), make(chan struct{})
	ctx := t.Context()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/admin", http.NoBody)
	r.Header.Set("Cookie", "sid="+sid)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	go func() {
		defer close(ended)
		defer func() {
			if err := recover(); err != nil && err != any(http.ErrAbortHandler) {
				t.Errorf("a panic: %v", err)
			}
		}()
		if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			<-r.Context().Done()
			return nil
		})); err != nil {
			t.Error(err)
		}
		if w.Code != http.StatusOK {
			t.Errorf("%s: status %d", sid, w.Code)
		}
	}()
	synctest.Wait()
	return ended
}

func isClosed(ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// TestAStreamEndsSoonAfterTheRowOfItsSession and that of another session of the same user
// goes on. Users and sessions have the same ids here.
func TestAStreamEndsSoonAfterTheRowOfItsSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const poll = 500 * time.Millisecond
		here := directories.Account{Exists: true}
		users := &table{users: map[string]directories.Account{"1": here, "2": here}}
		rows := &table{users: map[string]directories.Account{"1": here, "2": here, "3": here}}
		h := newStoredHandler(t, users, rows, accounts.Config{Poll: poll})
		time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
		one, two, three := openEvents(t, h, "1.1"), openEvents(t, h, "1.2"), openEvents(t, h, "2.3")
		unknown := openEvents(t, h, "2.4") // there is no row
		const counted = "a table"
		if counts := h.streams.Count(); len(counts) != 1 || counts[counted] != 4 {
			t.Errorf("under way: %v", counts)
		}
		time.Sleep(10 * poll)
		rows.commit(func() { rows.away = errors.New("there is no such table") })
		time.Sleep(2 * poll)
		for i, stream := range []<-chan struct{}{one, two, three, unknown} {
			if isClosed(stream) {
				t.Errorf("stream %d has ended because of an error", i)
			}
		}
		rows.commit(func() {
			rows.away = nil
			delete(rows.users, "2")
		})
		time.Sleep(2 * poll)
		for name, c := range map[string]struct {
			stream <-chan struct{}
			ended  bool
		}{
			"of the session whose row is gone": {two, true},
			"of another of the same user":      {one, false},
			"of somebody else":                 {three, false},
			"of one that never had a row":      {unknown, false},
		} {
			if isClosed(c.stream) != c.ended {
				t.Errorf("the stream %s: ended %t", name, !c.ended)
			}
		}
		users.commit(func() { delete(users.users, "2") })
		time.Sleep(2 * poll)
		if !isClosed(three) || !isClosed(unknown) || isClosed(one) {
			t.Error("the streams of a user, and no others, do not end with them")
		}
	})
}

// TestHowOftenARequestOfAStoredSessionAllocates compares it with one whose rows nobody
// looks up. Nothing runs beside it.
func TestHowOftenARequestOfAStoredSessionAllocates(t *testing.T) {
	const more = 2
	config := accounts.Config{TTL: time.Hour, Poll: -1}
	here := map[string]directories.Account{"1": {Exists: true}}
	h := newStoredHandler(t, &table{users: here}, &table{users: here}, config)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return nil
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/admin", http.NoBody)
	r.Header.Set("Cookie", "sid=1.1")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	allocations := func(most float64) float64 {
		least := math.Inf(1)
		for range 50 { // with the race detector, a sync.Pool drops some of its values
			if least <= most {
				break
			}
			least = min(least, testing.AllocsPerRun(20, func() {
				if err := h.ServeHTTP(w, r, next); err != nil {
					t.Error(err)
				}
			}))
		}
		return least
	}
	with := h.validator.sessions
	h.validator.sessions = make([]*sessiontable.Table, len(with))
	without := allocations(0)
	h.validator.sessions = with
	if n := allocations(without + more); w.Code != http.StatusOK || n > without+more {
		t.Errorf("status %d, %.0f allocations, %.0f without rows", w.Code, n, without)
	}
}
