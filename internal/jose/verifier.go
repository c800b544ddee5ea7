package jose

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// The values of VerifierConfig.Type besides the default.
const (
	// TypeLogout is that of logout tokens (OpenID Connect Back-Channel Logout 1.0,
	// section 2.4).
	TypeLogout = "logout+jwt"
	// TypeSecurityEvent is that of Security Event Tokens (RFC 8417, section 2.3).
	TypeSecurityEvent = "secevent+jwt"
	// TypeTokenRevocation is that of the tokens of Global Token Revocation requests, as
	// Okta makes them.
	TypeTokenRevocation = "global-token-revocation+jwt"
)

// Signature algorithms (RFC 7518, section 3.1, and RFC 8037).
var (
	hmacAlgorithms = []string{"HS256", "HS384", "HS512"}
	rsaAlgorithms  = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	ecAlgorithms   = []string{"ES256", "ES384", "ES512"}
	edAlgorithms   = []string{"EdDSA"}
)

var signedFields = []string{"alg", "kid", "typ", "cty", "x5t", "x5t#S256"}

// VerifierConfig says which signed tokens are valid.
type VerifierConfig struct {
	// Secrets verify HS256, HS384 and HS512.
	Secrets []string
	// PublicKeys verify the RS, PS and ES algorithms and EdDSA, each those of
	// its type: *rsa.PublicKey, *ecdsa.PublicKey with P-256, P-384 or P-521, and
	// ed25519.PublicKey.
	PublicKeys []crypto.PublicKey
	// JWKS verifies the same algorithms as PublicKeys. Default: none.
	JWKS *JWKS
	// Type is the typ that tokens may have besides JWT. Default: at+jwt.
	Type string
	// Algorithms are those that tokens may be signed with. Default: all that the keys
	// verify.
	Algorithms []string
	// Patient reports whether a token that names an unknown key waits until JWKS was
	// fetched for it, at most every five minutes and for three seconds, and is
	// ErrKeysUnavailable after that: the issuer may have a new key. Default: it is
	// ErrInvalid at once.
	Patient bool
}

// IsPublicKeyAlgorithm reports whether tokens can be signed with an algorithm and
// verified with a public key.
func IsPublicKeyAlgorithm(name string) bool {
	return slices.Contains(slices.Concat(rsaAlgorithms, ecAlgorithms, edAlgorithms), name)
}

// Verifier verifies signed tokens. Its keys determine which algorithms it
// accepts. It is safe for concurrent use.
type Verifier struct {
	secrets []jwt.VerificationKey
	public  map[string][]jwt.VerificationKey // by algorithm
	jwks    *JWKS
	typ     string
	allowed []string // algorithms; nil for all
	patient bool
}

// NewVerifier returns a verifier. A public key of a type that is not supported
// is an error.
func NewVerifier(config VerifierConfig) (*Verifier, error) {
	v := &Verifier{
		public: make(map[string][]jwt.VerificationKey),
		jwks:   config.JWKS,
		typ:    cmp.Or(config.Type, typeAccess),

		allowed: config.Algorithms, patient: config.Patient,
	}
	for _, secret := range config.Secrets {
		v.secrets = append(v.secrets, []byte(secret))
	}
	for _, key := range config.PublicKeys {
		algorithms := algorithmsOf(key)
		if len(algorithms) == 0 {
			return nil, unsupportedKey(key)
		}
		for _, algorithm := range algorithms {
			v.public[algorithm] = append(v.public[algorithm], key)
		}
	}
	return v, nil
}

// algorithmsOf returns the algorithms that a public key verifies, nil when it
// is not supported.
func algorithmsOf(key crypto.PublicKey) []string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return rsaAlgorithms
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ecAlgorithms[:1]
		case elliptic.P384():
			return ecAlgorithms[1:2]
		case elliptic.P521():
			return ecAlgorithms[2:]
		}
	case ed25519.PublicKey:
		return edAlgorithms
	}
	return nil
}

func unsupportedKey(key crypto.PublicKey) error {
	return fmt.Errorf("unsupported public key (%T): it must be RSA, EC P-256, P-384 or P-521, or Ed25519", key)
}

// Verify returns the claims of a token whose signature is valid. Numbers are
// json.Number. The error is ErrInvalid, ErrAlgorithm or ErrKeysUnavailable.
func (v *Verifier) Verify(token string) (map[string]any, error) {
	signed, err := v.Parse(token)
	if err != nil {
		return nil, err
	}
	return signed.Verify()
}

// Signed is a signed token that is well-formed and not yet verified.
type Signed struct {
	method             jwt.SigningMethod
	keys               []jwt.VerificationKey
	text               string // header and payload, which are signed
	payload, signature []byte
	ends               []int // where the signature may end: see readSignature
}

// Parse parses a token and finds the keys that may verify it, at least one, which
// costs little compared to Signed.Verify. The error is ErrInvalid, ErrAlgorithm or
// ErrKeysUnavailable.
func (v *Verifier) Parse(token string) (*Signed, error) {
	end := strings.LastIndexByte(token, '.')
	segment, encoded, found := strings.Cut(token[:max(end, 0)], ".")
	if !found || strings.Contains(encoded, ".") {
		return nil, ErrInvalid
	}
	header, err := parseHeader(segment, v.typ, signedFields)
	if err != nil {
		return nil, err
	}
	method := jwt.GetSigningMethod(header["alg"])
	if method == nil {
		return nil, ErrInvalid
	}
	if v.allowed != nil && !slices.Contains(v.allowed, method.Alg()) {
		return nil, ErrAlgorithm
	}
	keys, err := v.keys(method.Alg(), header)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, ErrInvalid
	}
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil, ErrInvalid
	}
	signed := &Signed{method: method, keys: keys, text: token[:end], payload: payload}
	var ok bool
	if signed.signature, signed.ends, ok = readSignature(token[end+1:]); !ok {
		return nil, ErrInvalid
	}
	return signed, nil
}

// Keys returns how many signatures Verify verifies at most: one by each key that may
// be the token's.
func (s *Signed) Keys() int { return len(s.keys) }

// by returns the signature as one by a key, which has the size of such. It is not ok
// if no decoder reads one of that size.
func (s *Signed) by(key jwt.VerificationKey) (signature []byte, ok bool) {
	size := 0
	switch k := key.(type) {
	case *rsa.PublicKey:
		size = k.Size()
	case *ecdsa.PublicKey:
		size = 2 * ((k.Curve.Params().BitSize + 7) / 8)
	case ed25519.PublicKey:
		size = ed25519.SignatureSize
	default:
		if method, ok := s.method.(*jwt.SigningMethodHMAC); ok {
			size = method.Hash.Size()
		}
	}
	if !slices.Contains(s.ends, size) {
		return nil, false
	}
	return s.signature[:size], true
}

// Canonical returns the token as its issuer has written it: without what decoding
// its signature ignores. It is empty for one that no key can have signed, or keys
// of several sizes.
func (s *Signed) Canonical() string {
	var only []byte
	for _, key := range s.keys {
		signature, ok := s.by(key)
		switch {
		case !ok:
		case only == nil:
			only = signature
		case len(signature) != len(only):
			return ""
		}
	}
	if only == nil {
		return ""
	}
	return s.text + "." + base64.RawURLEncoding.EncodeToString(only)
}

// Verify returns the claims of the token if its signature is valid, or ErrInvalid.
func (s *Signed) Verify() (map[string]any, error) {
	for _, key := range s.keys {
		if signature, ok := s.by(key); ok && s.method.Verify(s.text, signature, key) == nil {
			return ParsePayload(s.payload)
		}
	}
	return nil, ErrInvalid
}

// Generation changes whenever other keys may verify a token than before.
func (v *Verifier) Generation() uint64 {
	if v.jwks == nil {
		return 0
	}
	return v.jwks.generation.Load()
}

// keys returns the keys that may verify a token, given its algorithm and
// header.
func (v *Verifier) keys(algorithm string, header Header) ([]jwt.VerificationKey, error) {
	if slices.Contains(hmacAlgorithms, algorithm) {
		return v.secrets, nil
	}
	keys := v.public[algorithm]
	if v.jwks == nil {
		return keys, nil
	}
	id, hasID := header["kid"]
	published, err := v.jwks.find(id, hasID, algorithm)
	if errors.Is(err, errKeyUnknown) {
		if !v.patient {
			err = nil
		} else {
			v.jwks.await()
			if published, err = v.jwks.find(id, hasID, algorithm); errors.Is(err, errKeyUnknown) {
				err = ErrKeysUnavailable
			}
		}
	}
	if err != nil && len(keys) == 0 {
		return nil, err
	}
	return append(published, keys...), nil
}

// Header returns the header of a signed token, or ErrInvalid when it has fields
// that are not accepted, such as crit, embedded keys and key URLs.
func (v *Verifier) Header(token string) (Header, error) {
	segment, _, _ := strings.Cut(token, ".")
	return parseHeader(segment, v.typ, signedFields)
}

// HasKey reports whether there may be a key that verifies an algorithm: a
// secret, a public key, or any of the key set.
func (v *Verifier) HasKey(algorithm string) bool {
	if slices.Contains(hmacAlgorithms, algorithm) {
		return len(v.secrets) > 0
	}
	return len(v.public[algorithm]) > 0 || v.jwks != nil
}
