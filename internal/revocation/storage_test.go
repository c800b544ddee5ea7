package revocation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// guardedStorage counts what is stored, and refuses it if full is set.
type guardedStorage struct {
	certmagic.Storage
	full   bool
	stored atomic.Int32
}

func (g *guardedStorage) Store(ctx context.Context, key string, value []byte) error {
	g.stored.Add(1)
	if g.full {
		return errors.New("no space left on device")
	}
	return g.Storage.Store(ctx, key, value)
}

func TestRevocationsAreKnownAlthoughAFileOfAnotherNameFails(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(t *testing.T, files certmagic.Storage) certmagic.Storage{
		"it cannot be written": func(_ *testing.T, files certmagic.Storage) certmagic.Storage {
			return &guardedStorage{Storage: files, full: true}
		},
		"it is damaged": func(t *testing.T, files certmagic.Storage) certmagic.Storage {
			if err := files.Store(t.Context(), "stale_session/revoked/other.json", []byte("[{")); err != nil {
				t.Fatal(err)
			}
			return files
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := &certmagic.FileStorage{Path: t.TempDir()}
			if err := NewStorage(files, "one", 0).Put(t.Context(), []Revocation{{Subject: "ada", At: time.Now()}}); err != nil {
				t.Fatal(err)
			}
			local := NewStorage(broken(t, files), "one", 0)
			local.Name("other")
			l := Open(Config{Local: local, Logger: zap.NewNop})
			defer l.Close()
			l.Await(t.Context())
			if !knows(l, "ada") {
				t.Error("the revocation is not known")
			}
		})
	}
}

// A node in another time zone has written the times.
func TestFilesThatHoldTheSameAreNotWritten(t *testing.T) {
	t.Parallel()
	storage := &guardedStorage{Storage: &certmagic.FileStorage{Path: t.TempDir()}}
	local := NewStorage(storage, "one", 0)
	local.Name("other")
	elsewhere := time.FixedZone("", 5*60*60+45*60)
	if err := local.Put(t.Context(), []Revocation{{Subject: "ada", At: time.Now().In(elsewhere)}}); err != nil {
		t.Fatal(err)
	}
	before := storage.stored.Load()
	if all, err := local.load(t.Context()); err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	if n := storage.stored.Load() - before; n > 0 {
		t.Errorf("%d files are written", n)
	}
}

// impatientStorage refuses a lock that is taken, where Caddy's storage waits for it for a
// second at least.
type impatientStorage struct {
	certmagic.Storage
	locked atomic.Bool
}

func (i *impatientStorage) Lock(ctx context.Context, name string) error {
	if !i.locked.CompareAndSwap(false, true) {
		return errors.New("the lock is taken")
	}
	return i.Storage.Lock(ctx, name)
}

func (i *impatientStorage) Unlock(ctx context.Context, name string) error {
	defer i.locked.Store(false)
	return i.Storage.Unlock(ctx, name)
}

func TestManyRevocationsAtOnceDoNotWaitForTheLockOfTheStorage(t *testing.T) {
	t.Parallel()
	files := &certmagic.FileStorage{Path: t.TempDir()}
	l := Open(Config{Local: NewStorage(&impatientStorage{Storage: files}, "users", 0), Logger: zap.NewNop})
	defer l.Close()
	const many = 30
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			if err := l.Revoke(t.Context(), Revocation{Session: fmt.Sprint(i), At: time.Now()}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if stored, err := NewStorage(files, "users", 0).load(t.Context()); err != nil || len(stored) != many {
		t.Errorf("%d are stored, error %v", len(stored), err)
	}
}
