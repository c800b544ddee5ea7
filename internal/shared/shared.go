// Package shared keeps what several handlers use, and what outlives a reload
// of the configuration: connections, caches, keys.
package shared

import (
	"crypto/sha256"
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
)

// Pool holds values for as long as somebody uses them.
type Pool[T any] struct{ pool *caddy.UsagePool }

// NewPool returns an empty pool.
func NewPool[T any]() Pool[T] { return Pool[T]{caddy.NewUsagePool()} }

// value is what a Pool holds.
type value[T any] struct {
	value T
	close func() error
}

// Destruct closes the value once nobody uses it any more.
func (v value[T]) Destruct() error { return v.close() }

// Acquire takes a value from the pool, or puts the one there that open makes,
// with what closes it. What makes a value distinct is any value that JSON can
// hold; the pool keeps a digest of it, because it may be secret. Release gives
// the value back.
func (p Pool[T]) Acquire(distinct any, open func() (T, func() error, error)) (acquired T, release func() error, err error) {
	text, err := json.Marshal(distinct)
	if err != nil {
		return acquired, nil, err
	}
	key := sha256.Sum256(text)
	pooled, _, err := p.pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		opened, closed, err := open()
		return value[T]{opened, closed}, err
	})
	if err != nil {
		return acquired, nil, err
	}
	return pooled.(value[T]).value, func() error {
		_, err := p.pool.Delete(key)
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
