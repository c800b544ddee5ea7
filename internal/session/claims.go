package session

import "time"

// Claims are the claims of a valid session token that a verdict needs. Its
// slices share memory with the Claims that the token was read into.
type Claims struct {
	// Subject is the user id. It is empty when the token has no such claim, or
	// when the claim is neither a string nor an integer.
	Subject []byte

	// SessionID identifies the session where the app keeps its sessions; empty if that
	// is not known.
	SessionID []byte

	// IssuedAt is the time in the claim that Config.IssuedAt names. It is the
	// zero time when the token has none.
	IssuedAt time.Time

	// Lasting reports whether IssuedAt is from a claim that the app sets once, at
	// sign-in, and not from iat.
	Lasting bool

	// MintedAt is the time in the iat claim, the zero time when the token has
	// none. Apps that renew their tokens renew it too.
	MintedAt time.Time

	// SeenAt is when the token, or one that it renews, was read first, as far as
	// that is remembered. It was made before.
	SeenAt time.Time

	// ReadAt is when this token itself was read first, as far as that is remembered.
	ReadAt time.Time

	// Made reports whether the app was seen making the token: it was read first in a
	// response.
	Made bool

	// First reports whether this is the first time that the token was read.
	First bool

	// ExpiresAt is the time in the exp claim, the zero time when the token never
	// expires.
	ExpiresAt time.Time

	// Match holds the values of the claims that Config.Match names, in the same
	// order. A value is nil when the token lacks the claim, or when it is null.
	Match [][]byte

	// AppAsks reports whether the app itself looks the session up before it counts:
	// there is nothing to judge by. All else is then empty, but for SessionID.
	AppAsks bool

	// Doubtful reports whether the app may take somebody else for the user, by
	// another part of the request.
	Doubtful bool

	// Guessed reports whether nobody has said that users are known by Subject.
	Guessed bool

	encoded []byte // which Subject, SessionID and Match are slices of, if it is from the cache
	scratch [80]byte
	match   [2][]byte
}
