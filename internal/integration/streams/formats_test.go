package streams

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestAStreamOfASessionThatTheAppLooksUpEndsWithItsUser although its row is gone, too.
func TestAStreamOfASessionThatTheAppLooksUpEndsWithItsUser(t *testing.T) {
	name := standardapp.NewDatabase(t)
	standardapp.Execute(t, name, `insert into "User" values ('gone')`,
		`create table session (token text primary key, "userId" text not null references "User" on delete cascade, "createdAt" timestamptz not null default now(), "expiresAt" timestamptz not null)`,
		`insert into session (token, "userId", "expiresAt") select id || '-session', id, now() + interval '1 day' from "User"`)
	standardapp.OtherEnvironment(t, standardapp.Server.DSN(name), map[string]string{"BETTER_AUTH_SECRET": standardapp.Secret})
	app := newStreamsApp(t, (*httptest.Server).Start)
	c := startFor(t, "h1", "stale_session {", "poll 50ms", "sign_in /login", "users User", "}", "reverse_proxy "+app.Listener.Addr().String())
	cookie := func(user string) string {
		id := user + "-session"
		mac := hmac.New(sha256.New, []byte(standardapp.Secret))
		mac.Write([]byte(id))
		return "better-auth.session_token=" + url.QueryEscape(id+"."+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	gone, live := c.open(t, "/events", cookie("gone")), c.open(t, "/events", cookie("live"))
	standardapp.Execute(t, name, `delete from "User" where id = 'gone'`)
	ends(t, gone)
	goesOn(t, live)
}
