package revocation

import (
	"context"
	"errors"
)

// Store keeps revocations, and shares them with other nodes.
type Store interface {
	// Put stores revocations. It returns errNoStore if the store does not exist.
	Put(ctx context.Context, all []Revocation) error
	// Follow calls merge with all that the store holds (complete is true), then
	// with each change by any node, until ctx is done or the connection is lost.
	// It returns errNoStore if the store does not exist.
	Follow(ctx context.Context, merge func(all []Revocation, complete bool)) error
	// String names the store, without a user or a password.
	String() string
}

// Remote is a Store elsewhere than in the users' database and in Caddy's storage:
// Redis, in a Caddy that is built with the package redis.
type Remote interface {
	Store
	// Use lets the store ask who the users are, until release is called.
	Use(identify Identify) (release func())
	// Examine returns an error if the store cannot be read or written. It changes
	// nothing.
	Examine(ctx context.Context) error
	// Close closes the connections.
	Close()
}

// Identify returns what identifies the users, whatever the address of their database
// is; empty if that is not known now.
type Identify func(ctx context.Context) string

// errNoStore means that the store does not exist, which needs no attention: the
// local store is used instead.
var errNoStore = errors.New("the store does not exist")
