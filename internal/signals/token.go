package signals

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// leeway is how far the clocks of an issuer and of this server may differ.
const leeway = time.Minute

// tokens verifies the tokens of one issuer that are of one type.
type tokens struct {
	verifier   *jose.Verifier
	typ        string
	untyped    bool // the type may be JWT, or missing
	algorithms []string
	issuer     string
	audience   []string
}

// Errors of tokens.verify besides jose.ErrKeysUnavailable.
var (
	errKey      = errors.New("the token is not signed by a key of the issuer")
	errType     = errors.New("the typ of the token is another one")
	errIssuer   = errors.New("iss is not the configured issuer")
	errAudience = errors.New("aud does not contain the configured audience")
)

// open sets the verifier, and the algorithms if there are none.
func (t *tokens) open(keys *jose.JWKS) (err error) {
	if len(t.algorithms) == 0 {
		t.algorithms = []string{"RS256"}
	}
	for _, name := range t.algorithms {
		if !jose.IsPublicKeyAlgorithm(name) {
			return fmt.Errorf("algorithms has %q; it must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA", name)
		}
	}
	t.verifier, err = jose.NewVerifier(jose.VerifierConfig{Type: t.typ, JWKS: keys, Algorithms: t.algorithms, Patient: true})
	return err
}

// verify returns the claims of a token. A token of the issuer that is meant for
// something else, such as an ID token, has another type.
func (t *tokens) verify(text string) (map[string]any, error) {
	header, err := t.verifier.Header(text)
	switch {
	case err != nil:
		return nil, errKey
	case !t.untyped && !jose.IsType(header["typ"], t.typ):
		return nil, errType
	}
	claims, err := t.verifier.Verify(text)
	switch {
	case errors.Is(err, jose.ErrKeysUnavailable):
		return nil, err
	case errors.Is(err, jose.ErrAlgorithm):
		return nil, fmt.Errorf("%w with %s: `algorithms` has to name what it signs with", errKey, strings.Join(t.algorithms, " or "))
	case err != nil:
		return nil, errKey
	case claims["iss"] != t.issuer:
		return nil, errIssuer
	case !contains(claims["aud"], t.audience):
		return nil, errAudience
	}
	return claims, nil
}

// contains reports whether an aud claim is or contains one of the audiences.
func contains(claim any, audience []string) bool {
	list, ok := claim.([]any)
	if !ok {
		list = []any{claim}
	}
	return slices.ContainsFunc(list, func(one any) bool {
		text, ok := one.(string)
		return ok && slices.Contains(audience, text)
	})
}

// numericDate parses a NumericDate claim (RFC 7519, section 2).
func numericDate(claim any) (time.Time, bool) {
	number, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	s, err := number.Float64()
	if err != nil || !(s >= 1 && s < 1e15) {
		return time.Time{}, false
	}
	if s > maxSeconds { // milliseconds, perhaps: later than any time that counts
		s = maxSeconds
	}
	return time.UnixMicro(int64(s * 1e6)), true
}

// maxSeconds is in the year 5138.
const maxSeconds = 1e11

// text returns a member of a JSON object that is a text; empty if it is none.
func text(object map[string]any, name string) string {
	t, _ := object[name].(string)
	return t
}

// messageID returns the ID under which a message of an issuer is remembered.
func messageID(kind, issuer, id string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + issuer + "\x00" + id))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
