package postgres

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// visitor is somebody with a session.
type visitor struct {
	subject string
	claims  []string // to match
	age     time.Duration
	want    string // live, the reason why the session is stale, or unknown
}

// An hour ago is long enough before the test for anything in the database to be
// newer.
const ago = time.Hour

// judge judges a session as the handler does: a verdict that would end it counts
// once it is known from after the token was issued. It returns live, the reason
// why the session is stale, or unknown, with the failure.
func judge(e *accounts.Engine, v visitor) (string, error) {
	claims := session.Claims{Subject: []byte(v.subject), IssuedAt: time.Now().Add(-v.age)}
	for _, claim := range v.claims {
		claims.Match = append(claims.Match, []byte(claim))
	}
	for since := (time.Time{}); ; since = claims.IssuedAt.Add(verdict.Leeway) {
		account, _, err := ask(e, v.subject, since)
		if err != nil {
			return "unknown", err
		}
		decided, reason := verdict.Judge(&claims, &account.Account, verdict.Times{Now: time.Now()})
		switch {
		case decided == verdict.Live:
			return "live", nil
		case !since.IsZero() && !e.Proves(account, since):
			return "unknown", errors.New(e.Stats().Failure)
		case !since.IsZero() || !account.AsOf.Before(claims.IssuedAt.Add(verdict.Leeway)):
			return string(reason), nil
		}
	}
}

// visit judges sessions, each twice: the second time by what is cached.
func visit(t testing.TB, e *accounts.Engine, visitors ...visitor) {
	t.Helper()
	for _, v := range visitors {
		if v.age == 0 {
			v.age = ago
		}
		for range 2 {
			if got, err := judge(e, v); got != v.want {
				t.Errorf("a session of %s that claims %q is %s (%v), want %s", v.subject, v.claims, got, err, v.want)
			}
		}
	}
}

// unproven judges a session that must be unknown for lack of a proof, and fails
// if the error does not contain each text.
func unproven(t testing.TB, e *accounts.Engine, subject string, says ...string) {
	t.Helper()
	got, err := judge(e, visitor{subject: subject, age: ago})
	var failure *directories.Error
	if got != "unknown" || !errors.As(err, &failure) {
		t.Errorf("a session of %s is %s, %v; want unknown", subject, got, err)
		return
	}
	for _, text := range says {
		if !strings.Contains(failure.Error(), text) {
			t.Errorf("%q does not say %q", failure, text)
		}
	}
	if says := e.Stats().Failure; says != failure.Error() {
		t.Errorf("the state says %q instead of %q", says, failure)
	}
}

// roles counts the roles of the tests.
var roles atomic.Int64

// role creates a role for one test in a database, and returns it with the
// address that uses it. Commands run after that; %s stands for the role.
func role(t testing.TB, name string, commands ...string) (role, dsn string) {
	t.Helper()
	role = fmt.Sprintf("role%d", roles.Add(1))
	run(t, name, "create role "+role+" login")
	for _, command := range commands {
		run(t, name, strings.ReplaceAll(command, "%s", role))
	}
	return role, strings.Replace(server.DSN(name), "postgres@", role+"@", 1)
}
