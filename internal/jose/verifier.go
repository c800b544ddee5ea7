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

// TypeLogout is the VerifierConfig.Type of logout tokens (OpenID Connect
// Back-Channel Logout 1.0, section 2.4).
const TypeLogout = "logout+jwt"

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
}

// Verifier verifies signed tokens. Its keys determine which algorithms it
// accepts. It is safe for concurrent use.
type Verifier struct {
	secrets []jwt.VerificationKey
	public  map[string][]jwt.VerificationKey // by algorithm
	jwks    *JWKS
	typ     string
	parser  *jwt.Parser
}

// NewVerifier returns a verifier. A public key of a type that is not supported
// is an error.
func NewVerifier(config VerifierConfig) (*Verifier, error) {
	v := &Verifier{
		public: make(map[string][]jwt.VerificationKey),
		jwks:   config.JWKS,
		typ:    cmp.Or(config.Type, typeAccess),
	}
	var accepted []string
	for _, secret := range config.Secrets {
		v.secrets = append(v.secrets, []byte(secret))
	}
	if len(v.secrets) > 0 {
		accepted = append(accepted, hmacAlgorithms...)
	}
	for _, key := range config.PublicKeys {
		algorithms := algorithmsOf(key)
		if len(algorithms) == 0 {
			return nil, unsupportedKey(key)
		}
		for _, algorithm := range algorithms {
			v.public[algorithm] = append(v.public[algorithm], key)
			accepted = append(accepted, algorithm)
		}
	}
	if v.jwks != nil {
		accepted = slices.Concat(accepted, rsaAlgorithms, ecAlgorithms, edAlgorithms)
	}
	v.parser = jwt.NewParser(jwt.WithValidMethods(accepted), jwt.WithJSONNumber(), jwt.WithoutClaimsValidation())
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
// json.Number. The error is ErrInvalid or ErrKeysUnavailable.
func (v *Verifier) Verify(token string) (map[string]any, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, ErrInvalid
	}
	header, err := parseHeader(parts[0], v.typ, signedFields)
	if err != nil {
		return nil, err
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || tooDeep(payload) { // jwt parses it before it verifies the signature
		return nil, ErrInvalid
	}
	claims, err := v.verify(parts, header)
	if signature, after, found := strings.Cut(parts[2], "="); errors.Is(err, ErrInvalid) && found && strings.Trim(after, "=") != "" {
		// PHP and Python skip the sign.
		parts[2] = signature + strings.ReplaceAll(after, "=", "")
		return v.verify(parts, header)
	}
	return claims, err
}

// verify verifies the signature of a token, given its parts.
func (v *Verifier) verify(parts []string, header Header) (map[string]any, error) {
	signature, ok := appendBase64(nil, parts[2])
	if !ok {
		return nil, ErrInvalid
	}
	canonical := parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(signature)
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(canonical, claims, func(token *jwt.Token) (any, error) {
		return v.keys(token.Method.Alg(), header)
	})
	switch {
	case errors.Is(err, ErrKeysUnavailable):
		return nil, ErrKeysUnavailable
	case err != nil:
		return nil, ErrInvalid
	}
	return claims, nil
}

// keys returns the keys that may verify a token, given its algorithm and
// header.
func (v *Verifier) keys(algorithm string, header Header) (jwt.VerificationKeySet, error) {
	if slices.Contains(hmacAlgorithms, algorithm) {
		return jwt.VerificationKeySet{Keys: v.secrets}, nil
	}
	keys := v.public[algorithm]
	if v.jwks == nil {
		return jwt.VerificationKeySet{Keys: keys}, nil
	}
	id, hasID := header["kid"]
	published, err := v.jwks.find(id, hasID, algorithm)
	if err != nil && len(keys) == 0 {
		return jwt.VerificationKeySet{}, err
	}
	return jwt.VerificationKeySet{Keys: append(published, keys...)}, nil
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
