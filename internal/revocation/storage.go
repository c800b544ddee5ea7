package revocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	// storagePeriod is how often Caddy's storage is read: other nodes may share it.
	storagePeriod = 30 * time.Second
	// maxStored is the largest number of revocations in Caddy's storage. Each
	// change writes all of them.
	maxStored = 100_000
)

// Storage is a Store in Caddy's storage, as one file.
type Storage struct {
	storage certmagic.Storage
	file    string
	life    time.Duration
}

// NewStorage returns the store of a users table in Caddy's storage. With a life
// of 0, revocations are kept for DefaultLife.
func NewStorage(storage certmagic.Storage, name string, life time.Duration) *Storage {
	if life == 0 {
		life = DefaultLife
	}
	return &Storage{storage: storage, file: "stale_session/revoked/" + certmagic.StorageKeys.Safe(name) + ".json", life: life}
}

// String implements Store.
func (s *Storage) String() string { return "Caddy's storage" }

// Put implements Store.
func (s *Storage) Put(ctx context.Context, all []Revocation) error {
	if err := s.storage.Lock(ctx, s.file); err != nil {
		return err
	}
	defer func() { _ = s.storage.Unlock(context.WithoutCancel(ctx), s.file) }() // a lock that stays expires
	stored, err := s.load(ctx)
	if err != nil {
		return err
	}
	since := time.Now().Add(-s.life)
	merged := make(map[string]Revocation, len(stored)+len(all))
	for _, r := range stored {
		if r.At.After(since) {
			merged[r.key()] = r
		}
	}
	for _, r := range all {
		if known, found := merged[r.key()]; !found || r.state().after(known.state()) {
			merged[r.key()] = r
		}
	}
	if len(merged) > maxStored {
		return fmt.Errorf("there are %d revocations, and Caddy's storage keeps no more: use `revocations` in Redis, or a column such as `valid_after`", maxStored)
	}
	text, err := json.Marshal(latestFirst(slices.Collect(maps.Values(merged))))
	if err != nil {
		return err
	}
	return s.storage.Store(ctx, s.file, text)
}

// Follow implements Store.
func (s *Storage) Follow(ctx context.Context, merge func([]Revocation, bool)) error {
	ticker := time.NewTicker(storagePeriod)
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
		return nil, fmt.Errorf("reading revocations from Caddy's storage: %w", err)
	}
	return all, nil
}
