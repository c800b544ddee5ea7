package formats_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

// Signed is a format of one's own: the cookie `sid` is `<user id>.<HMAC-SHA256 in
// hexadecimal>`. A real module calls caddy.RegisterModule in its init function.
type Signed struct {
	// The secret. Default: {env.SID_SECRET}.
	Secret string `json:"secret,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Signed) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: formats.Namespace + ".signed", New: func() caddy.Module { return new(Signed) }}
}

// OpenFormat implements formats.Module.
func (s *Signed) OpenFormat(environment formats.Environment) (formats.Format, error) {
	secret, err := environment.Fill("secret", s.Secret)
	if err != nil {
		return nil, err
	}
	if secret == "" {
		secret = environment.Variable("SID_SECRET")
	}
	if secret == "" {
		return nil, fmt.Errorf("%w: set SID_SECRET in Caddy's environment, or add `secret`", formats.ErrNoKey)
	}
	return signed{[]byte(secret)}, nil
}

type signed struct{ secret []byte }

func (signed) Owns(name, _ string) bool { return name == "sid" }
func (signed) Headers() []string        { return nil }
func (signed) Readings(parts []formats.Part) (r []formats.Reading) {
	return formats.Values(parts, "sid")
}

func (s signed) Decode(text string, _ time.Time) (formats.Session, error) {
	user, signature, _ := strings.Cut(text, ".")
	given, err := hex.DecodeString(signature)
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(user))
	if err != nil || !hmac.Equal(mac.Sum(nil), given) {
		return formats.Session{}, formats.ErrInvalid
	}
	return formats.Session{Subject: user, Claims: map[string]any{"user": user}}, nil
}

type environment map[string]string

func (e environment) Fill(_, text string) (string, error)                   { return text, nil }
func (e environment) Variable(name string) string                           { return e[name] }
func (e environment) Verifier(formats.Keys) (v formats.Verifier, err error) { return v, err }

func Example() {
	format, err := new(Signed).OpenFormat(environment{"SID_SECRET": "a secret"})
	if err != nil {
		fmt.Println(err)
		return
	}
	mac := hmac.New(sha256.New, []byte("a secret"))
	mac.Write([]byte("ada"))
	parts := []formats.Part{{Name: "sid", Value: "ada." + hex.EncodeToString(mac.Sum(nil))}, {Name: "sid", Value: "bob.00"}}
	for _, reading := range format.Readings(parts) {
		session, err := format.Decode(reading.Text, time.Now())
		fmt.Printf("from cookie %d: %q, %v\n", reading.Parts[0], session.Subject, err)
	}
	_, err = new(Signed).OpenFormat(environment{})
	fmt.Println(err)
	// Output:
	// from cookie 0: "ada", <nil>
	// from cookie 1: "", the session is malformed, or made with another key
	// no key to read its sessions with: set SID_SECRET in Caddy's environment, or add `secret`
}
