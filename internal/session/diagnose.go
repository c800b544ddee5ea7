package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/unread"
)

// Diagnose returns why the value of a session cookie, or cookies with their names,
// cannot be read, and what to change: the secret, the cookie's name, the claim, the
// keys. It is empty if they can be read. It never repeats a value.
func (rd *Reader) Diagnose(token string) string {
	s := new(Session)
	rd.ReadToken(token, s)
	switch {
	case len(s.Tokens) > 0 && s.Tokens[0].Claims.AppAsks:
		return ""
	case len(s.Tokens) > 0 && len(s.Tokens[0].Claims.Subject) == 0:
		return fmt.Sprintf("it has no claim %q for the user id: set `subject` to the claim that holds it", rd.config.Subject)
	case len(s.Tokens) > 0:
		return ""
	case s.Failure == Expired:
		return "it has expired: use the token of a session that works; if there is none, synchronize the clocks of the app and of this machine"
	case s.Failure == KeysUnavailable:
		return "the key set of `jwks` has not been fetched"
	case s.TooLarge:
		return "it is larger than a session can be"
	case s.Failure == nobody:
		return "nobody is signed in, or the user id is not where it is looked for: set `subject` to its place"
	}
	switch kind := unread.KindOf(token); kind {
	case unread.None, unread.JWT, unread.JWE:
	default:
		return unread.Advice("NAME", kind)
	}
	if !rd.SignInPage() || len(s.Names) > 0 && s.Failure == Undecodable && strings.Contains(token, "=") {
		return "it is not a session of the app: pass all cookies of a session as a browser sends them, name=value; …, and use the app's own secret"
	}
	switch strings.Count(token, ".") {
	case 4:
		return rd.diagnoseEncrypted(token)
	case 2:
		return rd.diagnoseSigned(token)
	}
	return "it is not a JWT, which has three or five parts: with `strategy: \"database\"` the cookie holds a random key, and Auth.js itself looks the session up; the chunks of a session (.0, .1) must be joined first"
}

// diagnoseEncrypted returns why an encrypted token cannot be decrypted.
func (rd *Reader) diagnoseEncrypted(token string) string {
	header, err := rd.decrypter.Header(token)
	switch {
	case err != nil:
		return "its header is not one of NextAuth v4 or Auth.js v5: the app encrypts its tokens in its own way, which is not supported"
	case header["alg"] != "dir" || header["enc"] != "A256GCM" && header["enc"] != "A256CBC-HS512":
		return fmt.Sprintf("it is encrypted with %q and %q; NextAuth v4 and Auth.js v5 use \"dir\" with A256GCM or A256CBC-HS512", header["alg"], header["enc"])
	}
	kid, ok := header["kid"]
	if !ok {
		return "it is from NextAuth v4, encrypted with another secret: use the app's own NEXTAUTH_SECRET; or from Auth0, which needs `format auth0`"
	}
	for _, name := range DefaultCookieNames {
		if slices.Contains(rd.config.CookieNames, name) {
			continue
		}
		other, err := jose.NewDecrypter(rd.config.Secrets, []string{name})
		if err == nil && other.HasKey(name, kid) {
			return fmt.Sprintf("the secret is right, but the token belongs to the cookie %s: set `cookie` to that name", name)
		}
	}
	return "it is from Auth.js v5, encrypted with another secret or for a cookie with another name, which its key depends on: use the app's own AUTH_SECRET, and set `cookie` to the exact name"
}

// diagnoseSigned returns why a signed token cannot be verified.
func (rd *Reader) diagnoseSigned(token string) string {
	header, err := rd.verifier.Header(token)
	algorithm := header["alg"]
	switch {
	case err != nil:
		return "its header has fields that are not accepted (crit, embedded keys or key URLs)"
	case algorithm == "none":
		return "it is not signed"
	case slices.Contains([]string{"HS256", "HS384", "HS512"}, algorithm):
		return fmt.Sprintf("it is signed with %s and another secret, or its `iss` or `aud` differ from the configuration: use the app's own secret", algorithm)
	case !rd.verifier.HasKey(algorithm):
		return fmt.Sprintf("it is signed with %s and a private key: set `key_file` or `jwks` to the public key", algorithm)
	}
	return fmt.Sprintf("it is signed with %s and a key that is not in `key_file` or `jwks`, or its `iss` or `aud` differ from the configuration", algorithm)
}
