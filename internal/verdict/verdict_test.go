package verdict

import (
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	hour := func(h int) time.Time { return now.Add(time.Duration(h) * time.Hour) }
	texts := func(texts ...string) (all [][]byte) {
		for _, text := range texts {
			all = append(all, []byte(text))
		}
		return all
	}
	token := session.Claims{Subject: []byte("1"), IssuedAt: hour(-2)}
	withEmail := session.Claims{Subject: []byte("1"), IssuedAt: hour(-2), Match: texts("ada@example.com")}

	for name, c := range map[string]struct {
		claims  session.Claims
		account directories.Account
		verdict Verdict
		reason  Reason
	}{
		"the user exists": {
			token, directories.Account{Exists: true}, Live, "",
		},
		"the user was deleted": {
			token, directories.Account{}, Stale, UserNotFound,
		},
		"the user was banned": {
			token, directories.Account{Exists: true, Disabled: true}, Stale, UserDisabled,
		},
		"the account is older than the token": {
			token, directories.Account{Exists: true, CreatedAt: hour(-3)}, Live, "",
		},
		"the id was given to a new account after the token was issued": {
			token, directories.Account{Exists: true, CreatedAt: hour(-1)}, Stale, TokenPredatesAccount,
		},
		"the account was created just after its token, within the leeway": {
			token, directories.Account{Exists: true, CreatedAt: token.IssuedAt.Add(Leeway)}, Live, "",
		},
		"the account was created a moment past the leeway": {
			token, directories.Account{Exists: true, CreatedAt: token.IssuedAt.Add(Leeway + time.Millisecond)}, Stale, TokenPredatesAccount,
		},
		"the account was created tomorrow, so its time zone is wrong": {
			token, directories.Account{Exists: true, CreatedAt: hour(9)}, Live, "",
		},
		"the token does not say when it was issued": {
			session.Claims{Subject: []byte("1")}, directories.Account{Exists: true, CreatedAt: hour(-1), ValidAfter: hour(-1)}, Live, "",
		},
		"everybody was signed out after the token was issued": {
			token, directories.Account{Exists: true, ValidAfter: hour(-1)}, Stale, TokenRevoked,
		},
		"everybody was signed out before the token was issued": {
			token, directories.Account{Exists: true, ValidAfter: hour(-3)}, Live, "",
		},
		"the sign-out time lies in the far future": {
			token, directories.Account{Exists: true, ValidAfter: hour(24 * 365)}, Live, "",
		},
		"the e-mail is the row's": {
			withEmail, directories.Account{Exists: true, Matched: texts("Ada@Example.com")}, Live, "",
		},
		"the id is another person's now": {
			withEmail, directories.Account{Exists: true, Matched: texts("bob@example.com")}, Stale, ClaimMismatch,
		},
		"the column was emptied": {
			withEmail, directories.Account{Exists: true, Matched: [][]byte{nil}}, Stale, ClaimMismatch,
		},
		"the token lacks the claim": {
			session.Claims{Subject: []byte("1"), Match: [][]byte{nil}}, directories.Account{Exists: true, Matched: texts("bob@example.com")}, Live, "",
		},
		"two claims are matched and the second differs": {
			session.Claims{Match: texts("a", "1")},
			directories.Account{Exists: true, Matched: texts("a", "2")},
			Stale, ClaimMismatch,
		},
		"deletion goes before every other reason": {
			withEmail, directories.Account{Disabled: true, ValidAfter: hour(-1)}, Stale, UserNotFound,
		},
		"one of two rows is deleted": {
			token, directories.Account{Exists: true, Disabled: true, Others: []directories.Account{{Exists: true}}}, Live, "",
		},
		"the other one is": {
			token, directories.Account{Exists: true, Others: []directories.Account{{Exists: true, Disabled: true}}}, Live, "",
		},
		"both rows are deleted": {
			token, directories.Account{Exists: true, Disabled: true, Others: []directories.Account{{Exists: true, Disabled: true}}}, Stale, UserDisabled,
		},
		"the second row matches": {
			withEmail, directories.Account{Exists: true, Matched: texts("bob@example.com"), Others: []directories.Account{{Exists: true, Matched: texts("ada@example.com")}}}, Live, "",
		},
		"no row fits, each for a reason of its own": {
			withEmail, directories.Account{Exists: true, Disabled: true, Others: []directories.Account{{Exists: true, Matched: texts("bob@example.com")}}}, Stale, ClaimMismatch,
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, reason := Judge(&c.claims, &c.account, Times{Now: now})
			if v != c.verdict || reason != c.reason {
				t.Errorf("got %s %q, want %s %q", v, reason, c.verdict, c.reason)
			}
		})
	}
}
