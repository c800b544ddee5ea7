package session

import "errors"

// Verifier verifies logout tokens by the keys of a set.
type Verifier struct{ signed signed }

// NewVerifier returns what verifies by the keys of a set.
func NewVerifier(keys *JWKS) (*Verifier, error) {
	s, err := newSigned(nil, nil, keys)
	s.typ = "logout+jwt"
	return &Verifier{s}, err
}

// The errors of Verify.
var (
	// ErrKeysUnavailable: the key set has not been fetched yet.
	ErrKeysUnavailable = errKeysUnavailable
	// ErrSignature: the token is none, or is not signed by a key of the set.
	ErrSignature = errors.New("it is no token that is signed by a key of the set")
)

// Verify checks the signature of a token, and returns its claims, of which it
// checks none. Numbers are json.Number.
func (v *Verifier) Verify(token string) (map[string]any, error) {
	claims, failure := v.signed.verify(token)
	switch failure {
	case "":
		return claims, nil
	case KeysUnavailable:
		return nil, ErrKeysUnavailable
	}
	return nil, ErrSignature
}
