// Package shared holds what handlers share, and what survives a reload of the
// configuration: connections, caches, keys.
package shared

import (
	"crypto/sha256"
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
)

// Pool holds values while they are in use.
type Pool[T any] struct{ pool *caddy.UsagePool }

// NewPool returns an empty pool.
func NewPool[T any]() Pool[T] { return Pool[T]{caddy.NewUsagePool()} }

// value is a value in a Pool.
type value[T any] struct {
	value T
	close func() error
}

// Destruct closes the value after its last use.
func (v value[T]) Destruct() error { return v.close() }

// Acquire returns the value of a key. If the pool has none it calls open, which
// returns the value and what closes it. The key is anything that encodes to JSON;
// the pool holds a digest of it, because it may have secrets. The caller must call
// release when it no longer uses the value.
func (p Pool[T]) Acquire(key any, open func() (T, func() error, error)) (acquired T, release func() error, err error) {
	text, err := json.Marshal(key)
	if err != nil {
		return acquired, nil, err
	}
	digest := sha256.Sum256(text)
	pooled, _, err := p.pool.LoadOrNew(digest, func() (caddy.Destructor, error) {
		opened, closer, err := open()
		return value[T]{opened, closer}, err
	})
	if err != nil {
		return acquired, nil, err
	}
	return pooled.(value[T]).value, func() error {
		_, err := p.pool.Delete(digest)
		return err
	}, nil
}

// All returns the values in use.
func (p Pool[T]) All() []T {
	var all []T
	p.pool.Range(func(_, pooled any) bool {
		all = append(all, pooled.(value[T]).value)
		return true
	})
	return all
}
