// Package revocation keeps whose sessions were ended by hand.
package revocation

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	// life is how long a revocation is kept: browsers keep no cookie longer
	// (RFC 6265bis, section 5.5).
	life = 400 * 24 * time.Hour
	// maxEntries bounds a list.
	maxEntries = 100_000
	// MaxSubject bounds a subject, in bytes.
	MaxSubject = 1024
)

// Revocation ends the sessions of a subject that were issued up to a time.
type Revocation struct {
	// Subject is the user id.
	Subject string `json:"subject"`
	// At is when its sessions were ended. A session issued later is not
	// concerned: people can sign in again.
	At time.Time `json:"at"`
}

// List is the revocations of one users table. It is kept in Caddy's storage, so
// that it survives a restart. It is safe for use by several goroutines.
type List struct {
	storage certmagic.Storage
	file    string

	mu      sync.Mutex
	entries atomic.Pointer[map[string]time.Time] // replaced as a whole
}

// Open reads the list of a name from the storage.
func Open(ctx context.Context, storage certmagic.Storage, name string) (*List, error) {
	l := &List{storage: storage, file: "stale_session/revoked/" + certmagic.StorageKeys.Safe(name) + ".json"}
	entries, err := l.load(ctx)
	l.entries.Store(&entries)
	return l, err
}

// Find returns until when sessions of a subject were revoked.
func (l *List) Find(subject []byte) (at time.Time, found bool) {
	entries := *l.entries.Load()
	if len(entries) == 0 {
		return at, false
	}
	at, found = entries[string(subject)]
	return at, found
}

// All returns the revocations, the latest first.
func (l *List) All() []Revocation {
	all := make([]Revocation, 0)
	for subject, at := range *l.entries.Load() {
		all = append(all, Revocation{subject, at})
	}
	slices.SortFunc(all, func(a, b Revocation) int {
		return cmp.Or(b.At.Compare(a.At), strings.Compare(a.Subject, b.Subject))
	})
	return all
}

// Revoke ends the sessions of a subject that were issued up to now. An error
// tells that it holds, but not after a restart.
func (l *List) Revoke(ctx context.Context, subject string, now time.Time) error {
	if subject == "" || len(subject) > MaxSubject {
		return fmt.Errorf("a subject has 1 to %d bytes", MaxSubject)
	}
	return l.change(ctx, func(entries map[string]time.Time) error {
		maps.DeleteFunc(entries, func(_ string, at time.Time) bool { return now.Sub(at) > life })
		if _, known := entries[subject]; !known && len(entries) >= maxEntries {
			return fmt.Errorf("%d subjects are revoked already: use a column such as `valid_after` for so many", len(entries))
		}
		entries[subject] = now
		return nil
	})
}

// errNone is the answer to Restore when there is nothing to restore.
var errNone = errors.New("none of its sessions are revoked")

// Restore takes the revocation of a subject back.
func (l *List) Restore(ctx context.Context, subject string) error {
	return l.change(ctx, func(entries map[string]time.Time) error {
		if _, known := entries[subject]; !known {
			return errNone
		}
		delete(entries, subject)
		return nil
	})
}

// change changes the list in the storage, which other processes may share, and
// then here.
func (l *List) change(ctx context.Context, do func(entries map[string]time.Time) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.storage.Lock(ctx, l.file); err != nil {
		return l.changeHere(do, err)
	}
	defer func() { _ = l.storage.Unlock(context.WithoutCancel(ctx), l.file) }() // it goes stale by itself
	entries, err := l.load(ctx)
	if err != nil {
		return l.changeHere(do, err)
	}
	if err := do(entries); err != nil {
		return err
	}
	l.entries.Store(&entries)
	text, err := json.Marshal(entries)
	if err == nil {
		err = l.storage.Store(ctx, l.file, text)
	}
	if err != nil {
		return fmt.Errorf("it holds until Caddy is restarted, because it cannot be stored: %w", err)
	}
	return nil
}

// changeHere changes the list without the storage, which has failed.
func (l *List) changeHere(do func(entries map[string]time.Time) error, failure error) error {
	entries := maps.Clone(*l.entries.Load())
	if err := do(entries); err != nil {
		return err
	}
	l.entries.Store(&entries)
	return fmt.Errorf("it holds until Caddy is restarted, because it cannot be stored: %w", failure)
}

func (l *List) load(ctx context.Context) (map[string]time.Time, error) {
	entries := make(map[string]time.Time)
	text, err := l.storage.Load(ctx, l.file)
	if errors.Is(err, fs.ErrNotExist) {
		return entries, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &entries)
	}
	if err != nil {
		return make(map[string]time.Time), fmt.Errorf("reading revoked sessions from Caddy's storage: %w", err)
	}
	return entries, nil
}
