package verdict

import (
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	hour := func(h int) time.Time { return now.Add(time.Duration(h) * time.Hour) }
	byEmail := []Match{{Claim: "email", Column: "email"}}
	token := session.Claims{Subject: "1", IssuedAt: hour(-2), Match: map[string]string{"email": "ada@example.com"}}

	for name, c := range map[string]struct {
		claims  session.Claims
		account directory.Account
		matches []Match
		verdict Verdict
		reason  Reason
	}{
		"the user exists": {
			token, directory.Account{Exists: true}, nil, Live, "",
		},
		"the user was deleted": {
			token, directory.Account{}, nil, Stale, UserNotFound,
		},
		"the user was banned": {
			token, directory.Account{Exists: true, Disabled: true}, nil, Stale, UserDisabled,
		},
		"the account is older than the token": {
			token, directory.Account{Exists: true, CreatedAt: hour(-3)}, nil, Live, "",
		},
		"the id was given to a new account after the token was issued": {
			token, directory.Account{Exists: true, CreatedAt: hour(-1)}, nil, Stale, TokenPredatesAccount,
		},
		"the account was created just after its token, within the leeway": {
			token, directory.Account{Exists: true, CreatedAt: token.IssuedAt.Add(Leeway)}, nil, Live, "",
		},
		"the account was created a moment past the leeway": {
			token, directory.Account{Exists: true, CreatedAt: token.IssuedAt.Add(Leeway + time.Millisecond)}, nil, Stale, TokenPredatesAccount,
		},
		"the account was created tomorrow, so its time zone is wrong": {
			token, directory.Account{Exists: true, CreatedAt: hour(9)}, nil, Live, "",
		},
		"the token does not say when it was issued": {
			session.Claims{Subject: "1"}, directory.Account{Exists: true, CreatedAt: hour(-1), ValidAfter: hour(-1)}, nil, Live, "",
		},
		"everybody was signed out after the token was issued": {
			token, directory.Account{Exists: true, ValidAfter: hour(-1)}, nil, Stale, TokenRevoked,
		},
		"everybody was signed out before the token was issued": {
			token, directory.Account{Exists: true, ValidAfter: hour(-3)}, nil, Live, "",
		},
		"the sign-out time lies in the far future": {
			token, directory.Account{Exists: true, ValidAfter: hour(24 * 365)}, nil, Live, "",
		},
		"the e-mail is the row's": {
			token, directory.Account{Exists: true, Columns: map[string]string{"email": "Ada@Example.com"}}, byEmail, Live, "",
		},
		"the id is another person's now": {
			token, directory.Account{Exists: true, Columns: map[string]string{"email": "bob@example.com"}}, byEmail, Stale, ClaimMismatch,
		},
		"the column was emptied": {
			token, directory.Account{Exists: true}, byEmail, Stale, ClaimMismatch,
		},
		"the token lacks the claim": {
			session.Claims{Subject: "1"}, directory.Account{Exists: true, Columns: map[string]string{"email": "bob@example.com"}}, byEmail, Live, "",
		},
		"two claims are matched and the second differs": {
			session.Claims{Match: map[string]string{"email": "a", "v": "1"}},
			directory.Account{Exists: true, Columns: map[string]string{"email": "a", "version": "2"}},
			[]Match{{"email", "email"}, {"v", "version"}},
			Stale, ClaimMismatch,
		},
		"deletion goes before every other reason": {
			token, directory.Account{Disabled: true, ValidAfter: hour(-1)}, byEmail, Stale, UserNotFound,
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, reason := Judge(c.claims, c.account, c.matches, now)
			if v != c.verdict || reason != c.reason {
				t.Errorf("got %s %q, want %s %q", v, reason, c.verdict, c.reason)
			}
		})
	}
}
