package stalesession

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// validator takes a request to a verdict: cookies, token, claims, account,
// verdict.
type validator struct {
	reader   *session.Reader
	revoked  *revocation.List
	accounts *accounts.Engine
	timeout  time.Duration
	byID     bool // sessions may be ended by the claims of sessionIDs, which come last of those to match
}

// result is what was found out about the session of a request. It is allocated
// with the request, so that the usual one needs no further memory.
type result struct {
	session session.Session
	one     [1]verdict.Judgement
	check   verdict.Check
	wait    deadline.Context // bounds what the request waits for
}

// scratch holds accounts for reuse: no request needs one for longer than a
// judgement.
var scratch = sync.Pool{New: func() any { return new(accounts.Account) }}

// validate checks the session of a request. It does not change the request.
// Everything that it waits for ends at v.timeout after the request's arrival.
func (v *validator) validate(r *http.Request, x *result) {
	v.reader.Read(r.Header, &x.session)
	var judgements []verdict.Judgement
	if len(x.session.Tokens) > 0 {
		x.wait.Set(r.Context(), x.session.At.Add(v.timeout))
		judgements = v.judge(&x.wait, x.session.Tokens, x.session.At, time.Time{}, x.one[:0])
		x.wait.End()
	}
	x.check = verdict.Whole(&x.session, judgements)
	x.check.Braked = (x.check.Verdict == verdict.Stale && x.check.Source != accounts.FromRevocation || x.check.Dissent != nil) && v.accounts.Braking()
}

// judge appends the judgement on each token, by what is known since a time. It
// waits until ctx is done.
func (v *validator) judge(ctx context.Context, tokens []session.Token, now, since time.Time, judgements []verdict.Judgement) []verdict.Judgement {
	account := scratch.Get().(*accounts.Account)
	defer scratch.Put(account)
	for i := range tokens {
		judgements = append(judgements, v.judgeOne(ctx, &tokens[i].Claims, now, since, account))
	}
	return judgements
}

func (v *validator) judgeOne(ctx context.Context, claims *session.Claims, now, since time.Time, account *accounts.Account) verdict.Judgement {
	j := verdict.Judgement{Verdict: verdict.Unknown, Subject: claims.Subject}
	if len(claims.Subject) == 0 {
		return j
	}
	v.revoked.Await(ctx)
	if until, revoked := v.revoked.Find(claims.Subject); revoked && !claims.IssuedAt.After(until) {
		j.Verdict, j.Reason, j.Source = verdict.Stale, verdict.TokenRevoked, accounts.FromRevocation
		return j
	}
	if v.byID {
		all := claims.Match
		n := len(all) - len(sessionIDs)
		if v.revoked.HasID(all[n], all[n+1]) {
			j.Verdict, j.Reason, j.Source = verdict.Stale, verdict.TokenRevoked, accounts.FromRevocation
			return j
		}
		claims.Match = all[:n]
		defer func() { claims.Match = all }()
	}
	query := accounts.Query{Query: directories.Query{Subject: claims.Subject, Since: since}, Now: now}
	source, err := v.accounts.Lookup(ctx, query, account)
	if err != nil { // it was logged
		return j
	}
	decided, reason := verdict.Judge(claims, &account.Account, query.Now)
	minted := claims.MintedAt
	if minted.IsZero() { // it may be of this moment
		minted = query.Now
	}
	if known := minted.Add(verdict.Leeway); decided == verdict.Stale && account.AsOf.Before(known) {
		// What was known before the token was made must not end it: somebody
		// may have signed in right after the account came or changed.
		query.Since = known
		if source, err = v.accounts.Lookup(ctx, query, account); err != nil {
			return j
		}
		decided, reason = verdict.Judge(claims, &account.Account, query.Now)
	}
	j.Verdict, j.Reason, j.Source = decided, reason, source
	return j
}

// judgeNow judges tokens by what is true now, without any cache.
func (v *validator) judgeNow(ctx context.Context, tokens []session.Token, now time.Time) []verdict.Judgement {
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	return v.judge(ctx, tokens, now, now, nil)
}

// stale returns the judgement on the first of the tokens that is stale by now
// and is to be ended, nil when none is. What is known from before since is not
// good enough.
func (v *validator) stale(ctx context.Context, tokens []session.Token, since time.Time) *verdict.Judgement {
	if len(tokens) == 0 {
		return nil
	}
	for _, j := range v.judge(ctx, tokens, time.Now(), since, nil) {
		if j.Verdict == verdict.Stale && (j.Source == accounts.FromRevocation || !v.accounts.Braking()) {
			return &j
		}
	}
	return nil
}

// renewed returns the tokens of a request whose subject a token of its
// response has too.
func renewed(request, response []session.Token) []session.Token {
	var same []session.Token
	for _, sent := range request {
		if slices.ContainsFunc(response, func(set session.Token) bool { return bytes.Equal(set.Claims.Subject, sent.Claims.Subject) }) {
			same = append(same, sent)
		}
	}
	return same
}

// sessionIDs are the claims that sessions are ended by besides their subject, in
// the order in which they follow those to match.
var sessionIDs = []string{"sid", "jti"}
