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

// errNoStore means that the store does not exist, which needs no attention: the
// local store is used instead.
var errNoStore = errors.New("the store does not exist")
