package revocation

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func TestEveryNodeRefusesWhoIsBlocked(t *testing.T) {
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			f := fleet{t, open}
			node, other := f.node(), f.node()
			long := time.Now().Add(-2 * DefaultLife) // a block does not end by itself
			if _, err := node.Apply(t.Context(), "m1", []Revocation{{Subject: "ada", Blocked: true, At: long}}); err != nil {
				t.Fatal(err)
			}
			late := f.node()
			for i, l := range []*List{node, other, late} {
				eventually.Holds(t, fmt.Sprintf("node %d refuses ada", i), func() bool { return l.Blocks([]byte("ada")) })
				if _, revoked := l.Find([]byte("ada")); revoked || l.Blocks([]byte("bob")) || l.HasID([]byte("ada"), []byte("ada")) {
					t.Error("more than the block of ada is in effect")
				}
			}
			if _, err := other.Apply(t.Context(), "m2", []Revocation{{Subject: "ada", Blocked: true, Restored: true, At: time.Now()}}); err != nil {
				t.Fatal(err)
			}
			for i, l := range []*List{node, other, late} {
				eventually.Holds(t, fmt.Sprintf("node %d lets ada in", i), func() bool { return !l.Blocks([]byte("ada")) })
			}
			again := make(chan bool, 1)
			eventually.Holds(t, "another node knows that a message was applied", func() bool {
				known, err := late.Apply(t.Context(), "m1", []Revocation{{Subject: "ada", Blocked: true, At: time.Now().Add(time.Hour)}})
				if known {
					again <- true
				}
				return known || err != nil
			})
			if len(again) == 0 || late.Blocks([]byte("ada")) {
				t.Error("a message that comes again blocks again")
			}
		})
	}
}

// Whoever has linked an account elsewhere, which is enabled there, stays refused.
func TestABlockIsLiftedByWhoMadeItOnly(t *testing.T) {
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			f := fleet{t, open}
			node, other := f.node(), f.node()
			now := time.Now()
			apply := func(by string, restored bool) {
				t.Helper()
				now = now.Add(time.Millisecond)
				if _, err := node.Apply(t.Context(), fmt.Sprint(by, restored), []Revocation{{Subject: "ada", Blocked: true, By: by, Restored: restored, At: now}}); err != nil {
					t.Fatal(err)
				}
			}
			apply("https://a.example/x y", false)
			apply("https://b.example", true)
			apply("https://c.example", false)
			apply("https://c.example", true)
			known := Revocation{Subject: "ada", Blocked: true, By: "https://c.example"}
			eventually.Holds(t, "the other node knows all", func() bool {
				other.Await(t.Context())
				other.mu.RLock()
				defer other.mu.RUnlock()
				s, found := other.entries.get(known)
				return found && s.restored
			})
			for i, l := range []*List{node, other} {
				if !l.Blocks([]byte("ada")) {
					t.Errorf("node %d: another issuer has lifted the block", i)
				}
			}
			if err := other.Restore(t.Context(), "ada", now); err != nil {
				t.Fatal(err)
			}
			eventually.Holds(t, "the operator has lifted it", func() bool { return !node.Blocks([]byte("ada")) && !other.Blocks([]byte("ada")) })
		})
	}
}

func TestMessagesCountInTheOrderOfTheirTimes(t *testing.T) {
	t.Parallel()
	at := func(seconds int) time.Time {
		return time.Now().Add(time.Duration(seconds-60) * time.Second).Truncate(time.Second)
	}
	now := at(0)
	block := func(seconds int, undo bool) Revocation {
		return Revocation{Subject: "ada", Blocked: true, Restored: undo, At: now.Add(time.Duration(seconds) * time.Second)}
	}
	for name, c := range map[string]struct {
		all  []Revocation
		want bool
	}{
		"disabled":                                {[]Revocation{block(1, false)}, true},
		"disabled, then enabled":                  {[]Revocation{block(1, false), block(2, true)}, false},
		"enabled, delivered first":                {[]Revocation{block(2, true), block(1, false)}, false},
		"disabled again":                          {[]Revocation{block(1, false), block(2, true), block(3, false)}, true},
		"disabled again, delivered out of order":  {[]Revocation{block(3, false), block(1, false), block(2, true)}, true},
		"both at the same time":                   {[]Revocation{block(1, false), block(1, true)}, true},
		"both at the same time, in another order": {[]Revocation{block(1, true), block(1, false)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := Open(Config{Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0), Logger: zap.NewNop})
			defer l.Close()
			for i, r := range c.all {
				if _, err := l.Apply(t.Context(), fmt.Sprint(i), []Revocation{r}); err != nil {
					t.Fatal(err)
				}
			}
			if got := l.Blocks([]byte("ada")); got != c.want {
				t.Errorf("blocked: %v", got)
			}
		})
	}
}

// The life of revocations is that of sessions, not how late an event may be delivered.
func TestABlockThatWasLiftedStaysLiftedLongerThanSessionsLast(t *testing.T) {
	t.Parallel()
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	open := func() *List {
		l := Open(Config{Local: NewStorage(storage, "users", time.Hour), Life: time.Hour, Logger: zap.NewNop})
		t.Cleanup(func() { l.Close() })
		return l
	}
	enabled := time.Now().Add(-2 * time.Hour)
	if _, err := open().Apply(t.Context(), "enabled", []Revocation{{Subject: "ada", Blocked: true, Restored: true, At: enabled}}); err != nil {
		t.Fatal(err)
	}
	restarted := open()
	if _, err := restarted.Apply(t.Context(), "disabled", []Revocation{{Subject: "ada", Blocked: true, At: enabled.Add(-time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	if restarted.Blocks([]byte("ada")) {
		t.Error("who was enabled since is refused for good")
	}
}

func TestAMessageThatComesAgainRevokesNobodyAgain(t *testing.T) {
	t.Parallel()
	storage := NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0)
	l := Open(Config{Local: storage, Logger: zap.NewNop})
	defer l.Close()
	first := time.Now().Add(-time.Minute).Truncate(precision)
	for i, at := range []time.Time{first, first.Add(time.Second)} {
		if again, err := l.Apply(t.Context(), "m", []Revocation{{Subject: "ada", At: at}}); again != (i > 0) || err != nil {
			t.Fatalf("time %d: again %v, error %v", i, again, err)
		}
	}
	if until, _ := l.Find([]byte("ada")); !until.Equal(first) {
		t.Errorf("revoked until %s, want %s", until, first)
	}
	if err := l.Restore(t.Context(), "ada", time.Now()); err != nil {
		t.Fatal(err)
	}
	if again, err := l.Apply(t.Context(), "m", []Revocation{{Subject: "ada", At: time.Now().Add(time.Second)}}); !again || err != nil {
		t.Errorf("again %v, error %v", again, err)
	}
	if _, found := l.Find([]byte("ada")); found {
		t.Error("it undoes what an operator has restored")
	}
	if again, err := l.Apply(t.Context(), "m", []Revocation{{Subject: "bob", At: time.Now()}}); !again || err != nil {
		t.Errorf("for another user: again %v, error %v", again, err)
	}
	if n := len(AllOf([]*List{l})); n != 0 {
		t.Errorf("%d revocations are shown", n)
	}
	stored, err := storage.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range stored {
		if r.Subject == "bob" || r.Subject == "ada" && !r.Restored {
			t.Errorf("it is stored for %s", r.Subject)
		}
	}
}

// fullStorage refuses to store anything while it is full.
type fullStorage struct {
	certmagic.Storage
	full atomic.Bool
}

func (f *fullStorage) Store(ctx context.Context, key string, value []byte) error {
	if f.full.Load() {
		return errors.New("no space left on device")
	}
	return f.Storage.Store(ctx, key, value)
}

// Whoever sends a message again that could not be stored needs to know when it is.
func TestAMessageThatWasNotStoredIsWrittenWhenItComesAgain(t *testing.T) {
	t.Parallel()
	files := &fullStorage{Storage: &certmagic.FileStorage{Path: t.TempDir()}}
	files.full.Store(true)
	l := Open(Config{Local: NewStorage(files, "users", 0), Logger: zap.NewNop})
	defer l.Close()
	all := []Revocation{{Subject: "ada", At: time.Now()}}
	for range 2 {
		if _, err := l.Apply(t.Context(), "m", all); err == nil {
			t.Error("no error although it was not stored")
		}
	}
	files.full.Store(false)
	if _, err := l.Apply(t.Context(), "m", all); err != nil {
		t.Error(err)
	}
	other := Open(Config{Local: NewStorage(files, "users", 0), Logger: zap.NewNop})
	defer other.Close()
	other.Await(t.Context())
	if _, found := other.Find([]byte("ada")); !found {
		t.Error("it is not stored")
	}
}

func TestAnOperatorCanLiftABlock(t *testing.T) {
	t.Parallel()
	l := Open(Config{Local: NewStorage(&certmagic.FileStorage{Path: t.TempDir()}, "users", 0), Logger: zap.NewNop})
	defer l.Close()
	block := []Revocation{{Subject: "ada", Blocked: true, At: time.Now()}}
	if _, err := l.Apply(t.Context(), "m", block); err != nil {
		t.Fatal(err)
	}
	if all := AllOf([]*List{l}); len(all) != 1 || !all[0].Blocked {
		t.Errorf("revoked: %v", all)
	}
	if err := l.Restore(t.Context(), "ADA", time.Now()); !errors.Is(err, ErrNone) {
		t.Errorf("another user: %v", err)
	}
	if err := l.Restore(t.Context(), "ada", time.Now()); err != nil || l.Blocks([]byte("ada")) {
		t.Errorf("blocked: %v, error %v", l.Blocks([]byte("ada")), err)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	t.Parallel()
	e := newEntries(DefaultLife)
	for i := range maxMessages + 10 {
		if _, ok := e.set(Revocation{Message: fmt.Sprint(i), At: time.Now()}); !ok {
			t.Fatal("a message that is not remembered is an error")
		}
	}
	if len(e.messages) != maxMessages {
		t.Errorf("%d messages", len(e.messages))
	}
	for key := range e.messages {
		e.messages[key] = state{at: time.Now().Add(-2 * MessageLife)}
	}
	e.set(Revocation{Subject: "ada", Blocked: true, At: time.Now().Add(-2 * DefaultLife)})
	e.set(Revocation{Subject: "bob", At: time.Now().Add(-2 * DefaultLife)})
	e.sweep()
	if len(e.messages) != 0 || len(e.blocks) != 1 || len(e.subjects) != 0 {
		t.Errorf("%d messages, %d blocks, %d subjects are left", len(e.messages), len(e.blocks), len(e.subjects))
	}
}
