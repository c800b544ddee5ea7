package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// explain judges a session without any cache, and says on what grounds.
func (h *Handler) explain(ctx context.Context, q Question) Reasoning {
	r := Reasoning{Mode: h.Mode, Database: h.Accounts.String()}
	read := new(session.Session)
	switch {
	case q.Subject != "":
		read.Tokens = []session.Token{{Claims: session.Claims{Subject: []byte(q.Subject)}}}
	case q.Cookies != "":
		h.Reader.Read(http.Header{"Cookie": {q.Cookies}}, read)
	default:
		h.Reader.ReadToken(q.Token, read)
	}
	r.Failure = string(read.Failure)
	judge := func(tokens []session.Token) []verdict.Judgement { return h.Judge(ctx, tokens, time.Now()) }
	judgements := judge(read.Tokens)
	check := verdict.Whole(read, judgements)
	if check.Strip && q.Cookies != "" {
		verdict.Separate(h.Reader, http.Header{"Cookie": {q.Cookies}}, judgements, &check, h.Reader.Read, judge)
	}
	r.Verdict, r.Reason, r.Source = string(check.Verdict), string(check.Reason), string(check.Source)
	if q.Subject == "" {
		for _, token := range read.Tokens {
			r.Tokens = append(r.Tokens, Token{
				Cookies: token.Names, Subject: string(token.Claims.Subject),
				IssuedAt: moment(token.Claims.IssuedAt), ExpiresAt: moment(token.Claims.ExpiresAt),
			})
		}
	}
	if len(check.Subject) == 0 {
		return r
	}
	if at, revoked := h.Revoked.Find(check.Subject); revoked {
		r.Revoked = &at
	}
	var account accounts.Account
	query := accounts.Query{Query: directories.Query{Subject: check.Subject}, Now: time.Now()}
	if _, err := h.Accounts.Lookup(ctx, query, &account); err != nil {
		r.Error = err.Error()
		return r
	}
	r.Account = &Account{Exists: account.Exists, Disabled: account.Disabled, CreatedAt: moment(account.CreatedAt), ValidAfter: moment(account.ValidAfter)}
	return r
}

// moment returns a time in UTC, nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
