package revocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
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

// Storage is a Store in Caddy's storage: a file for each name of the users. All files
// hold the same, and each is enough, because a name may change.
type Storage struct {
	storage certmagic.Storage
	life    time.Duration
	// writing holds a value while one is written: who waits for the lock of the storage
	// itself only looks again each second, and many come at once when a provider signs
	// everybody out.
	writing chan struct{}

	mu    sync.Mutex
	names []string
	named chan struct{} // there is another name
}

// NewStorage returns the store of a users table in Caddy's storage. If there are too
// many revocations, those older than life are left out; 0 is DefaultLife.
func NewStorage(storage certmagic.Storage, name string, life time.Duration) *Storage {
	if life == 0 {
		life = DefaultLife
	}
	return &Storage{storage: storage, life: life, writing: make(chan struct{}, 1), names: []string{name}, named: make(chan struct{}, 1)}
}

// Name adds a name of the users.
func (s *Storage) Name(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" || slices.Contains(s.names, name) {
		return
	}
	s.names = append(s.names, name)
	select {
	case s.named <- struct{}{}:
	default:
	}
}

// files returns the paths of the files.
func (s *Storage) files() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := make([]string, len(s.names))
	for i, name := range s.names {
		files[i] = "stale_session/revoked/" + certmagic.StorageKeys.Safe(name) + ".json"
	}
	return files
}

// String implements Store.
func (s *Storage) String() string { return "Caddy's storage" }

// Put implements Store.
func (s *Storage) Put(ctx context.Context, all []Revocation) error {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, file := range s.files() {
		if err := s.put(ctx, file, all); err != nil {
			return err
		}
	}
	return nil
}

func (s *Storage) put(ctx context.Context, file string, all []Revocation) error {
	if err := s.storage.Lock(ctx, file); err != nil {
		return err
	}
	defer func() { _ = s.storage.Unlock(context.WithoutCancel(ctx), file) }() // a lock that stays expires
	stored, err := s.loadFile(ctx, file)
	if err != nil {
		return err
	}
	now := time.Now()
	merged := make(map[string]Revocation, len(stored)+len(all))
	for _, r := range slices.Concat(stored, all) {
		if known, found := merged[r.Key()]; r.counts(now, DefaultLife) && (!found || r.Supersedes(known)) {
			merged[r.Key()] = r
		}
	}
	if len(merged) > maxStored {
		maps.DeleteFunc(merged, func(_ string, r Revocation) bool { return r.Message != "" || !r.counts(now, s.life) })
	}
	if len(merged) > maxStored {
		return fmt.Errorf("there are %d revocations, and Caddy's storage keeps no more: use `revocations` in Redis, or a column such as `valid_after`", maxStored)
	}
	text, err := json.Marshal(latestFirst(slices.Collect(maps.Values(merged))))
	if err != nil {
		return err
	}
	return s.storage.Store(ctx, file, text)
}

// Follow implements Store.
func (s *Storage) Follow(ctx context.Context, merge func([]Revocation, bool)) error {
	ticker := time.NewTicker(storagePeriod)
	defer ticker.Stop()
	for {
		all, err := s.load(ctx)
		merge(all, err == nil)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.named:
		case <-ticker.C:
		}
	}
}

// load reads all files. What one of them lacks is added to it. With an error, it
// returns what the files hold that can be read.
func (s *Storage) load(ctx context.Context) ([]Revocation, error) {
	var contents [][]Revocation
	var failures []error
	latest := make(map[string]Revocation)
	for _, file := range s.files() {
		all, err := s.loadFile(ctx, file)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		contents = append(contents, all)
		for _, r := range all {
			if known, found := latest[r.Key()]; !found || r.Supersedes(known) {
				latest[r.Key()] = r
			}
		}
	}
	all := slices.Collect(maps.Values(latest))
	for _, content := range contents {
		current := 0
		for _, r := range content {
			if !latest[r.Key()].Supersedes(r) {
				current++
			}
		}
		if current < len(latest) {
			failures = append(failures, s.Put(ctx, all))
			break
		}
	}
	return all, errors.Join(failures...)
}

func (s *Storage) loadFile(ctx context.Context, file string) ([]Revocation, error) {
	var all []Revocation
	text, err := s.storage.Load(ctx, file)
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
