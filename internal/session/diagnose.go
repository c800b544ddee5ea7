package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// Diagnose tells what is wrong with a token that is the value of a session
// cookie: its kind, the secret, the cookie's name, the algorithm or its time;
// empty when it can be read. It never repeats the token.
func (rd *Reader) Diagnose(token string) string {
	s := new(Session)
	rd.ReadToken(token, s)
	switch {
	case len(s.Tokens) > 0 && len(s.Tokens[0].Claims.Subject) == 0:
		return fmt.Sprintf("it has no claim %q that names the user: name one that it has with `subject`", rd.config.Subject)
	case len(s.Tokens) > 0:
		return ""
	case s.Failure == Expired:
		return "its time is over: take one of a session that works; if there is none, the clocks of the app and of this machine differ"
	case s.Failure == KeysUnavailable:
		return "the key set of `jwks` has not been fetched"
	case s.TooLarge:
		return "it is larger than a session can be"
	}
	switch strings.Count(token, ".") {
	case 4:
		return rd.diagnoseEncrypted(token)
	case 2:
		return rd.diagnoseSigned(token)
	}
	return "it is no JWT, which has three or five parts: with `strategy: \"database\"` the cookie holds a random key, and Auth.js itself checks it; a session that is cut into chunks (.0, .1) has to be put together first"
}

// diagnoseEncrypted tells why an encrypted token cannot be opened.
func (rd *Reader) diagnoseEncrypted(token string) string {
	header, err := rd.decrypter.Header(token)
	switch {
	case err != nil:
		return "its header is none that NextAuth v4 or Auth.js v5 makes: the app encrypts its tokens in a way of its own, which cannot be read"
	case header["alg"] != "dir" || header["enc"] != "A256GCM" && header["enc"] != "A256CBC-HS512":
		return fmt.Sprintf("it is encrypted with %q and %q; NextAuth v4 and Auth.js v5 use \"dir\" with A256GCM or A256CBC-HS512", header["alg"], header["enc"])
	}
	id, named := header["kid"]
	if !named {
		return "it is one of NextAuth v4, encrypted with another secret: give the app's own NEXTAUTH_SECRET"
	}
	for _, name := range DefaultCookieNames {
		if slices.Contains(rd.config.CookieNames, name) {
			continue
		}
		other, err := jose.NewDecrypter(rd.config.Secrets, []string{name})
		if err == nil && other.HasKey(name, id) {
			return fmt.Sprintf("the secret is right, but it belongs to the cookie %s: name that with `cookie`", name)
		}
	}
	return "it is one of Auth.js v5, encrypted with another secret, or for a cookie of another name, which is part of its key: give the app's own AUTH_SECRET, and the exact name with `cookie`"
}

// diagnoseSigned tells why a signature cannot be verified.
func (rd *Reader) diagnoseSigned(token string) string {
	header, err := rd.verifier.Header(token)
	algorithm := header["alg"]
	switch {
	case err != nil:
		return "its header holds more than is accepted (crit, embedded keys or key URLs)"
	case algorithm == "none":
		return "it is not signed"
	case slices.Contains([]string{"HS256", "HS384", "HS512"}, algorithm):
		return fmt.Sprintf("it is signed with %s and another secret: give the app's own; or its `iss` or `aud` are others than configured", algorithm)
	case !rd.verifier.HasKey(algorithm):
		return fmt.Sprintf("it is signed with %s and a private key: give the public one with `key_file` or `jwks`", algorithm)
	}
	return fmt.Sprintf("it is signed with %s and another key than those of `key_file` or `jwks`; or its `iss` or `aud` are others than configured", algorithm)
}
