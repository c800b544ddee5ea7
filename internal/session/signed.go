package session

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// signed verifies signed tokens (JWS in compact form). Which algorithms are
// accepted follows from the keys alone.
type signed struct {
	secrets []jwt.VerificationKey
	public  map[string][]jwt.VerificationKey // by algorithm
	jwks    *JWKS
	typ     string // of tokens, besides JWT
	parser  *jwt.Parser
}

// errKeysUnavailable: the key set has not been fetched yet.
var errKeysUnavailable = errors.New("the key set has not been fetched yet")

var hmacAlgorithms = []string{"HS256", "HS384", "HS512"}

// newSigned sorts the keys by what they can verify.
func newSigned(secrets []string, keys []crypto.PublicKey, jwks *JWKS) (signed, error) {
	s := signed{public: make(map[string][]jwt.VerificationKey), jwks: jwks, typ: "at+jwt"}
	var accepted []string
	for _, secret := range secrets {
		s.secrets = append(s.secrets, []byte(secret))
	}
	if len(secrets) > 0 {
		accepted = append(accepted, hmacAlgorithms...)
	}
	for _, key := range keys {
		algorithms := algorithmsOf(key)
		if len(algorithms) == 0 {
			return signed{}, fmt.Errorf("a key of type %T verifies no algorithm that is known here; RSA, EC P-256, P-384, P-521 and Ed25519 do", key)
		}
		for _, algorithm := range algorithms {
			s.public[algorithm] = append(s.public[algorithm], key)
			accepted = append(accepted, algorithm)
		}
	}
	if jwks != nil {
		accepted = append(accepted, "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
	}
	s.parser = jwt.NewParser(jwt.WithValidMethods(accepted), jwt.WithJSONNumber(), jwt.WithoutClaimsValidation())
	return s, nil
}

// algorithmsOf returns the algorithms that a public key verifies (RFC 7518,
// section 3.1, and RFC 8037).
func algorithmsOf(key crypto.PublicKey) []string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []string{"ES256"}
		case elliptic.P384():
			return []string{"ES384"}
		case elliptic.P521():
			return []string{"ES512"}
		}
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}

// verify checks the signature of a token and returns its payload.
func (s signed) verify(text string) (map[string]any, Failure) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, Undecodable
	}
	header, err := readHeaderOf(s.typ, parts[0], "alg", "kid", "typ", "cty", "x5t", "x5t#S256")
	if err != nil {
		return nil, Undecodable
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || tooDeep(payload) { // the parser reads it before it verifies
		return nil, Undecodable
	}
	signature, ok := appendBase64(nil, parts[2])
	if !ok {
		return nil, Undecodable
	}
	parts[2] = base64.RawURLEncoding.EncodeToString(signature)
	claims := jwt.MapClaims{}
	_, err = s.parser.ParseWithClaims(strings.Join(parts, "."), claims, func(token *jwt.Token) (any, error) {
		return s.keys(token.Method.Alg(), header)
	})
	switch {
	case errors.Is(err, errKeysUnavailable):
		return nil, KeysUnavailable
	case err != nil:
		return nil, Undecodable
	}
	return claims, ""
}

// keys returns the keys that may verify an algorithm.
func (s signed) keys(algorithm string, header joseHeader) (jwt.VerificationKeySet, error) {
	if strings.HasPrefix(algorithm, "HS") {
		return jwt.VerificationKeySet{Keys: s.secrets}, nil
	}
	keys := s.public[algorithm]
	if s.jwks == nil {
		return jwt.VerificationKeySet{Keys: keys}, nil
	}
	id, named := header["kid"]
	published, err := s.jwks.find(id, named, algorithm)
	if err != nil && len(keys) == 0 {
		return jwt.VerificationKeySet{}, err
	}
	return jwt.VerificationKeySet{Keys: append(published, keys...)}, nil
}
