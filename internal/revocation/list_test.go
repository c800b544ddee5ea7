package revocation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func TestEveryNodeKnowsWhatOneRevokes(t *testing.T) {
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			f := fleet{t, open}
			nodes := []*List{f.node(), f.node(), f.node()}
			at := time.Now()
			for i, r := range []Revocation{{Subject: "ada", At: at}, {Session: "sid-1", At: at}, {Token: "jti-1", At: at}} {
				if err := nodes[i].Revoke(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			for i, node := range nodes {
				eventually.Holds(t, fmt.Sprintf("node %d knows all", i), func() bool {
					until, found := node.Find([]byte("ada"))
					return found && until.Sub(at).Abs() < time.Microsecond && node.HasID([]byte("sid-1"), nil) && node.HasID(nil, []byte("jti-1"))
				})
				if _, found := node.Find([]byte("sid-1")); found || node.HasID([]byte("ada"), []byte("sid-1")) {
					t.Error("a subject, a session and a token with the same ID are confused")
				}
			}
			if err := nodes[2].Restore(t.Context(), "ada", time.Now()); err != nil {
				t.Fatal(err)
			}
			for i, node := range nodes {
				eventually.Holds(t, fmt.Sprintf("node %d knows the undo", i), func() bool { _, found := node.Find([]byte("ada")); return !found })
			}
			late := f.node()
			eventually.Holds(t, "a node that started later knows all but the undone one", func() bool {
				_, found := late.Find([]byte("ada"))
				return !found && late.HasID([]byte("sid-1"), nil) && late.HasID(nil, []byte("jti-1"))
			})
			if err := late.Restore(t.Context(), "ada", time.Now()); !errors.Is(err, ErrNone) {
				t.Errorf("restoring twice: error %v, want %v", err, ErrNone)
			}
		})
	}
}

// Who revokes may spell a user differently than the token.
func TestARevocationCountsInEverySpelling(t *testing.T) {
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			f := fleet{t, open}
			node, other := f.node(), f.node()
			for revoked, subject := range map[string]string{
				"7D444840-9DC0-11D1-B245-5FFDCE74FAD2":   "7d444840-9dc0-11d1-b245-5ffdce74fad2",
				"7d4448409dc011d1b2455ffdce74fad3":       "{7D444840-9DC0-11D1-B245-5FFDCE74FAD3}",
				"{7d444840-9dc0-11d1-b245-5ffdce74fad4}": "7d4448409dc011d1b2455ffdce74fad4",
				"Ada@Example.com":                        "ada@example.COM",
				"bob@example.com":                        "Bob@example.com",
				"Ada":                                    "Ada",
			} {
				if err := node.Revoke(t.Context(), Revocation{Subject: revoked, At: time.Now()}); err != nil {
					t.Fatal(err)
				}
				for _, list := range []*List{node, other} {
					eventually.Holds(t, subject+" is revoked", func() bool { _, found := list.Find([]byte(subject)); return found })
				}
				if err := node.Restore(t.Context(), subject, time.Now()); err != nil {
					t.Errorf("%s: %v", subject, err)
				}
				eventually.Holds(t, subject+" is restored", func() bool { _, found := other.Find([]byte(subject)); return !found })
			}
			if err := node.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}); err != nil {
				t.Fatal(err)
			}
			if _, found := node.Find([]byte("Ada")); found {
				t.Error("ids in another letter case are others")
			}
		})
	}
}

func TestALostConnectionMissesNoRevocation(t *testing.T) {
	database, open := newUsers(t)
	redis := startRedis(t)
	for name, c := range map[string]struct {
		open func(*testing.T) Store
		cut  func()
	}{
		"Postgres": {open, func() {
			execute(t, "postgres", fmt.Sprintf(`select pg_terminate_backend(pid) from pg_stat_activity where datname = '%s'`, database))
		}},
		"Redis": {inRedis(redis.URL()), func() {
			if _, err := redis.Do(context.Background(), "CLIENT", "KILL", "TYPE", "normal"); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := fleet{t, c.open}
			a, b := f.node(), f.node()
			for n := range 60 {
				if n%20 == 10 {
					c.cut()
				}
				// A failed write is pending.
				_ = a.Revoke(t.Context(), Revocation{Subject: fmt.Sprint(n), At: time.Now()})
			}
			for n := range 60 {
				eventually.Holds(t, fmt.Sprintf("the other node knows %d", n), func() bool { _, found := b.Find([]byte(fmt.Sprint(n))); return found })
			}
		})
	}
}

func TestAdoptedRevocationsAreStored(t *testing.T) {
	open := func() (*List, *Storage) {
		storage := NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0)
		l := Open(Config{Local: storage, Logger: zap.NewNop})
		t.Cleanup(func() { _ = l.Close() })
		return l, storage
	}
	before, _ := open()
	old := time.Now().Add(-2 * DefaultLife)
	before.merge([]Revocation{{Subject: "bob", At: old}})
	if err := before.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	l, storage := open()
	l.Adopt(before)
	l.Await(t.Context())
	eventually.Holds(t, "the revocation is stored, the old one is not", func() bool {
		all, err := storage.load(t.Context())
		return err == nil && len(all) == 1 && all[0].Subject == "ada"
	})
}

func TestARevocationIsStoredIfTheClientDisconnects(t *testing.T) {
	server := startRedis(t)
	local := NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0)
	l := Open(Config{Shared: inRedis(server.URL())(t), Local: local, Logger: zap.NewNop})
	defer l.Close()
	l.Await(t.Context())
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Revoke(ctx, Revocation{Subject: "ada", At: time.Now()}); err == nil {
		t.Error("no error although the shared store is down")
	}
	if all, err := local.load(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("stored locally: %v, %v", all, err)
	}
}

// stuck is a store that has lost its data and whose writes hang.
type stuck struct{ putting, merged chan struct{} }

func (stuck) String() string { return "a store" }

func (s stuck) Put(ctx context.Context, _ []Revocation) error {
	s.putting <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (s stuck) Follow(ctx context.Context, merge func([]Revocation, bool)) error {
	merge(nil, true)
	s.merged <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// Follow runs on the connection of the watch, which must not be blocked.
func TestReconcileDoesNotBlockFollow(t *testing.T) {
	store := stuck{make(chan struct{}, 100), make(chan struct{}, 100)}
	l := Open(Config{Shared: store, Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0), Logger: zap.NewNop})
	defer l.Close()
	l.merge([]Revocation{{Subject: "ada", At: time.Now()}})
	go l.Await(t.Context())
	<-store.putting
	select {
	case <-store.merged:
	default:
		t.Error("merge waits for the write")
	}
	if !l.OutOfSync() {
		t.Error("in sync although a write is pending")
	}
}

func TestTheLatestStateWins(t *testing.T) {
	l := Open(Config{})
	now := time.Now()
	l.merge([]Revocation{{Subject: "ada", At: now}})
	l.merge([]Revocation{{Subject: "ada", At: now.Add(-time.Hour), Restored: true}})
	if _, found := l.Find([]byte("ada")); !found {
		t.Error("an older undo supersedes the revocation")
	}
	l.merge([]Revocation{{Subject: "ada", At: now.Add(time.Second), Restored: true}})
	if _, found := l.Find([]byte("ada")); found {
		t.Error("a newer undo has no effect")
	}
	if len(AllOf([]*List{l})) != 0 {
		t.Errorf("revoked: %v", AllOf([]*List{l}))
	}
}

func TestInvalidRevocationsAreRejected(t *testing.T) {
	l := Open(Config{Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0)})
	defer l.Close()
	for name, r := range map[string]Revocation{
		"empty":               {},
		"subject and session": {Subject: "a", Session: "b"},
		"subject too long":    {Subject: string(slices.Repeat([]byte("x"), MaxID+1))},
		"NUL in the subject":  {Subject: "a\x00b"},
		"session and token":   {Session: "a", Token: "b"},
	} {
		if err := l.Revoke(t.Context(), r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
