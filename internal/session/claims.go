package session

import "time"

// Claims is what a session token says, once it is decrypted or its signature
// is verified, and only as much of it as the verdict needs. The texts belong
// to the session that they were read into.
type Claims struct {
	// Subject is the user id that the token names. It is empty when the token
	// has no such claim, or one that is neither a string nor an integer.
	Subject []byte

	// IssuedAt is the time in the claim that Config.IssuedAt names. It is the
	// zero time when the token has none.
	IssuedAt time.Time

	// MintedAt is the time in the iat claim, zero when the token has none. Apps
	// that renew their tokens make it anew each time.
	MintedAt time.Time

	// ExpiresAt is the time in the exp claim, zero when the token never
	// expires.
	ExpiresAt time.Time

	// Match holds the values of the claims that Config.Match names, in their
	// order; nil for a claim that the token lacks, or that is null.
	Match [][]byte

	encoded []byte // what the texts are parts of
	scratch [80]byte
	match   [2][]byte
}
