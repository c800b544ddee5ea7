// Package jose decrypts and verifies tokens in JOSE's compact form: JWE with a
// shared key, as NextAuth v4 and Auth.js v5 make them (RFC 7516), and JWS
// (RFC 7515).
//
// It checks headers, keys and signatures. Checking claims, also the registered
// ones such as exp, is up to the caller.
package jose

import "errors"

// Errors of Decrypter.Decrypt and Verifier.Verify.
var (
	// ErrInvalid means that the token is malformed, that its header has a field
	// or value that is not accepted, or that it was made with another key.
	ErrInvalid = errors.New("the token is malformed, or made with another key")

	// ErrAlgorithm means that the token is signed with an algorithm that is not among
	// VerifierConfig.Algorithms.
	ErrAlgorithm = errors.New("the token is signed with another algorithm")

	// ErrKeysUnavailable means that the key set has not been fetched yet, or not for
	// a new key, so that the token may be valid or not.
	ErrKeysUnavailable = errors.New("the key set has not been fetched yet")
)
