package unread

import (
	"fmt"
	"strings"
)

// Advice returns what to configure, so that the session in a cookie is read.
func Advice(name string, kind Kind) string {
	switch {
	case name == Bearer:
		return "if it is your app's, set `secret`, `key_file` or `jwks` to the key that it is signed with"
	case strings.Contains(name, "better-auth."):
		return "it is Better Auth's: set BETTER_AUTH_SECRET in Caddy's environment"
	}
	switch kind {
	case JWT:
		return fmt.Sprintf("if it is the session of your app, add `cookie %s`, and `secret`, `key_file` or `jwks` with the key that it is signed with", name)
	case JWE:
		if isNamedAs(name, "__session", "appSession") {
			return "if it is Auth0's, add `format auth0 { subject user.sub }`, and the column of your users table that holds that: `users { id COLUMN }`"
		}
		return fmt.Sprintf("if it is the session of NextAuth or Auth.js, add `cookie %s`, and `secret` with the app's secret", name)
	case Seal:
		switch {
		case isNamedAs(name, "wos-session"):
			return "it is WorkOS AuthKit's: add `format iron_session { cookie wos-session; secret {env.WORKOS_COOKIE_PASSWORD}; subject user.id }`, an option a line, and the column of your users table that holds the ids of WorkOS: `users { id COLUMN }`"
		case isNamedAs(name, "nuxt-session", "h3"):
			return "set NUXT_SESSION_PASSWORD in Caddy's environment, or add `format h3` with `secret`"
		}
		return fmt.Sprintf("if it is the session of iron-session, add `format iron_session` with `cookie %[1]s` and `secret`; if it is h3's, `format h3` with the same options", name)
	case Supabase:
		return "it is Supabase's: set SUPABASE_JWT_SECRET or SUPABASE_URL in Caddy's environment, or add `format supabase`"
	case SignedJSON:
		return fmt.Sprintf("if it is the session of Remix or React Router, set SESSION_SECRET in Caddy's environment, or add `format remix` with `cookie %s` and `secret`", name)
	case SignedID:
		return "it holds the id of a session that the app keeps itself, as express-session does, which cannot be read; have the app look the user up on each request"
	}
	return ""
}

// isNamedAs reports whether a name is one of some names, or that of a chunk of it.
func isNamedAs(name string, names ...string) bool {
	for _, base := range names {
		if rest, ok := strings.CutPrefix(name, base); ok && strings.Trim(rest, "._0123456789") == "" {
			return true
		}
	}
	return false
}
