package revocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddyserver/certmagic"
)

// storageEvery is how often Caddy's storage is read again, which other nodes
// may share.
const storageEvery = 30 * time.Second

// maxStored bounds the file in Caddy's storage, which is written as a whole.
const maxStored = 100_000

// Storage is Caddy's own storage as a store.
type Storage struct {
	storage certmagic.Storage
	file    string
	life    time.Duration
}

// NewStorage returns the store of a users table in Caddy's storage.
func NewStorage(storage certmagic.Storage, name string, life time.Duration) *Storage {
	if life == 0 {
		life = DefaultLife
	}
	return &Storage{storage: storage, file: "stale_session/revoked/" + certmagic.StorageKeys.Safe(name) + ".json", life: life}
}

// String names the store.
func (s *Storage) String() string { return "Caddy's storage" }

// Put implements Store.
func (s *Storage) Put(ctx context.Context, all []Revocation) error {
	if err := s.storage.Lock(ctx, s.file); err != nil {
		return err
	}
	defer func() { _ = s.storage.Unlock(context.WithoutCancel(ctx), s.file) }() // it goes stale by itself
	held, err := s.load(ctx)
	if err != nil {
		return err
	}
	since := time.Now().Add(-s.life)
	merged := make(map[string]Revocation, len(held)+len(all))
	for _, r := range held {
		if r.At.After(since) {
			merged[r.key()] = r
		}
	}
	for _, r := range all {
		known, was := merged[r.key()]
		if !was || (state{r.At, r.Restored}).after(state{known.At, known.Restored}) {
			merged[r.key()] = r
		}
	}
	if len(merged) > maxStored {
		return fmt.Errorf("%d sessions are revoked already: use a column such as `valid_after`, or `revocations` in Redis, for so many", maxStored)
	}
	list := make([]Revocation, 0, len(merged))
	for _, r := range merged {
		list = append(list, r)
	}
	text, err := json.Marshal(sorted(list))
	if err != nil {
		return err
	}
	return s.storage.Store(ctx, s.file, text)
}

// Follow implements Store.
func (s *Storage) Follow(ctx context.Context, merge func([]Revocation, bool)) error {
	ticker := time.NewTicker(storageEvery)
	defer ticker.Stop()
	for {
		all, err := s.load(ctx)
		if err != nil {
			return err
		}
		merge(all, true)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func (s *Storage) load(ctx context.Context) ([]Revocation, error) {
	var all []Revocation
	text, err := s.storage.Load(ctx, s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("reading revoked sessions from Caddy's storage: %w", err)
	}
	return all, nil
}
