// Package signals ends sessions when an identity provider says so: by Global Token
// Revocation, and as a receiver of Shared Signals.
package signals

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

const (
	// MaxBody is the longest request body, in bytes.
	MaxBody = 64 << 10
	// BodyTimeout is how long a body may take to arrive.
	BodyTimeout = 10 * time.Second
	// applyTimeout is how long it may take to find users.
	applyTimeout = 5 * time.Second
	// leeway is how far the clocks of an issuer and of this server may differ.
	leeway = time.Minute
	// minSecret is the shortest secret that clients may send, in bytes.
	minSecret = 32
)

// Endpoint accepts signals at a path. It is safe for concurrent use.
type Endpoint interface {
	// Kind is that of its signals.
	Kind() Kind
	// At is its path, from the root of the site.
	At() string
	// Serve answers a request. It calls acquire only once a whole request was read and
	// is valid, so that nobody's slow request holds what acquire returns.
	Serve(w http.ResponseWriter, r *http.Request, acquire Acquire) Result
}

// Kind is a kind of signals, as the option and the metric signals_total name it.
type Kind string

// The kinds.
const (
	BackchannelLogout Kind = "backchannel_logout"
	Revocation        Kind = "global_token_revocation"
	Shared            Kind = "shared_signals"
)

// Kinds are all kinds.
var Kinds = []Kind{BackchannelLogout, Revocation, Shared}

// Acquire returns what signals act on, until release is called.
type Acquire func() (to Target, release func())

// Target is what signals act on.
type Target struct {
	// Users finds the app's users; nil if they are where they cannot be found.
	Users identities.Users
	// Exists reports whether there is a user with an id.
	Exists func(ctx context.Context, id string) (bool, error)
	// Sessions are the sessions that were revoked.
	Sessions *revocation.List
}

// Result is what a signal has led to.
type Result struct {
	// Revoked is what was revoked, blocked or restored, by now or before.
	Revoked []revocation.Revocation
	// Again reports whether the signal had come before, and changed nothing.
	Again bool
	// Ignored says why a valid signal has changed nothing.
	Ignored string
	// NotFound reports whether it has changed nothing because the app has no such user.
	NotFound bool
	// Attention reports whether Ignored needs somebody's attention.
	Attention bool
	// Err is why a signal was refused, or could not be applied.
	Err error
	// Refused reports whether Err is the sender's fault.
	Refused bool
}

// Defaults are options of the handler that apply where an endpoint sets none.
type Defaults struct {
	Issuer, Audience, JWKS string
	// Origin is the address of the site, such as https://app.example; empty if that is
	// not known.
	Origin string
	// AuthPath is the base path of the auth routes.
	AuthPath string
	// IssuedAt reports whether sessions say when their user signed in. Else they say
	// when they were renewed last.
	IssuedAt bool
	// NoUsers reports whether users can be found neither by their accounts nor by their
	// addresses.
	NoUsers bool
}

// allow returns an error if an issuer's users cannot be found as it names them.
func (d Defaults) allow(a *identities.Accounts, domains identities.Domains) error {
	if d.NoUsers && len(a.Provider)+len(domains) > 0 {
		return identities.ErrUnsupported
	}
	return a.Validate()
}

// Keys opens key sets.
type Keys interface {
	// KeySet opens the JSON Web Key Set at a URL or in a file.
	KeySet(location string) (*jose.JWKS, error)
	// DiscoverKeySet opens the one that the metadata of an issuer name.
	DiscoverKeySet(metadata, issuer string) (*jose.JWKS, error)
}

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

func openTokens(keys *jose.JWKS, typ string, algorithms []string) (*tokens, error) {
	if len(algorithms) == 0 {
		algorithms = []string{"RS256"}
	}
	for _, name := range algorithms {
		if !jose.IsPublicKeyAlgorithm(name) {
			return nil, fmt.Errorf("algorithms has %q; it must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA", name)
		}
	}
	verifier, err := jose.NewVerifier(jose.VerifierConfig{Type: typ, JWKS: keys, Algorithms: algorithms, Patient: true})
	return &tokens{verifier: verifier, typ: typ, algorithms: algorithms}, err
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
	case !Contains(claims["aud"], t.audience):
		return nil, errAudience
	}
	return claims, nil
}

// Contains reports whether an aud claim is or contains one of the audiences.
func Contains(claim any, audience []string) bool {
	list, ok := claim.([]any)
	if !ok {
		list = []any{claim}
	}
	return slices.ContainsFunc(list, func(one any) bool {
		text, ok := one.(string)
		return ok && slices.Contains(audience, text)
	})
}

// seconds parses a NumericDate claim (RFC 7519, section 2).
func seconds(claim any) (time.Time, bool) {
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

// same compares a secret in constant time.
func same(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// secret fills the placeholders of an option that holds a secret.
func secret(env environment.Environment, option, value string) (string, error) {
	filled, err := env.Fill(option, value)
	if err == nil && filled != "" && len(filled) < minSecret {
		err = fmt.Errorf("%s must have at least %d characters, such as the output of `openssl rand -hex 32`", option, minSecret)
	}
	return filled, err
}

// path returns the path of an endpoint, by default below the auth routes.
func (d Defaults) path(path, name string) (string, error) {
	if path == "" {
		return d.AuthPath + "/" + name, nil
	}
	if path[0] != '/' {
		return "", fmt.Errorf("path is %q; it must begin with a slash", path)
	}
	return path, nil
}

var errTooLong = fmt.Errorf("the body is longer than %d bytes", MaxBody)

// ReadBody reads the body of a request, which may neither be long nor take longer than a
// timeout.
func ReadBody(w http.ResponseWriter, r *http.Request, timeout time.Duration) ([]byte, error) {
	control := http.NewResponseController(w)
	bounded := control.SetReadDeadline(time.Now().Add(timeout)) == nil
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if bounded && err == nil { // else what follows is not waited for either
		err = control.SetReadDeadline(time.Time{})
	}
	if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
		return nil, errTooLong
	}
	if err != nil {
		return nil, errors.New("the body cannot be read, or takes too long")
	}
	return body, nil
}

// errMethod is the error of a request that is no POST.
var errMethod = errors.New("the method is not POST")

// IsPost reports whether a request is a POST, and else answers it. No answer is stored.
func IsPost(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodPost {
		return true
	}
	w.Header().Set("Allow", http.MethodPost)
	http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	return false
}

// WriteJSON answers with a JSON object.
func WriteJSON(w http.ResponseWriter, status int, object map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object) // fails if the client disconnected
}
