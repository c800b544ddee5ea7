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
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/sessiontable"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// validator finds the verdict on a request: from cookies to tokens, claims, accounts
// and verdicts.
type validator struct {
	reader           *session.Reader
	revoked          *revocation.List
	accounts         *accounts.Engine
	sessions         []*sessiontable.Table // of each of the reader's formats; nil without one
	evidence         *session.Evidence     // of the reader's sessions, in the engine's table
	timeout          time.Duration
	matchesSessionID bool // Claims.Match ends with the values of sessionIDs
	late             bool // its configuration was replaced before
}

// result is the session of a request and the verdict on it. It is part of request,
// so that a usual one needs no further allocation.
type result struct {
	session session.Session
	one     [1]verdict.Judgement // the judgements on a session with one token
	check   verdict.Check
	rest    http.Header      // the session's fields without what is stale, if check.Strip
	marks   []string         // of its stale tokens
	wait    deadline.Context // bounds how long the request waits
}

// scratch holds accounts for reuse, so that judging a token does not allocate.
var scratch = sync.Pool{New: func() any { return new(accounts.Account) }}

// validate checks the session of a request, which was read, without changing the
// request. All that it waits for ends v.timeout after the request arrived.
func (v *validator) validate(r *http.Request, res *result) {
	var judgements []verdict.Judgement
	if len(res.session.Tokens) > 0 {
		res.wait.Set(r.Context(), res.session.At.Add(v.timeout))
		judgements = v.judge(&res.wait, res.session.Tokens, asking{now: res.session.At}, res.one[:0])
		defer res.wait.End()
	}
	if res.check = verdict.Whole(&res.session, judgements); res.check.Strip {
		res.marks = marks(res.session.Tokens, judgements)
		res.rest = verdict.Separate(v.reader, v.reader.Fields(r.Header), judgements, &res.check, v.reader.Read, func(tokens []session.Token) []verdict.Judgement {
			return v.judge(&res.wait, tokens, asking{now: res.session.At}, nil)
		})
	}
	res.check.Braked = (res.check.Verdict == verdict.Stale && res.check.Source != accounts.FromRevocation || res.check.Dissent != nil) && v.braking()
}

// braking reports whether nobody's session ends who is gone. That of a replaced
// configuration does so too while those do that are in use: it has seen few itself.
func (v *validator) braking() bool {
	return v.accounts.Braking() || v.late && provision.Braking(v.accounts.String())
}

// asking says what a judgement is for.
type asking struct {
	now   time.Time
	since time.Time // the account includes every change made before
	aside bool      // no request asks
}

// judge appends the judgement on each token. It waits until ctx is done at most.
func (v *validator) judge(ctx context.Context, tokens []session.Token, asked asking, judgements []verdict.Judgement) []verdict.Judgement {
	account := scratch.Get().(*accounts.Account)
	defer scratch.Put(account)
	for i := range tokens {
		judgements = append(judgements, v.judgeToken(ctx, &tokens[i], asked, account))
	}
	return judgements
}

// judgeToken judges a token, also by where the app keeps its sessions.
func (v *validator) judgeToken(ctx context.Context, token *session.Token, asked asking, account *accounts.Account) verdict.Judgement {
	c := &token.Claims
	if len(c.SessionID) == 0 || v.sessions[token.Format()] == nil {
		return v.judgeUser(ctx, token, asked, account)
	}
	if c.AppAsks { // it ends by itself where it has ended there
		claims, known := v.ownersClaims(ctx, token, asked.now)
		if !known {
			return verdict.Judgement{Verdict: verdict.Live}
		}
		owned := *token
		owned.Claims = claims
		return v.judgeUser(ctx, &owned, asked, account)
	}
	j := v.judgeUser(ctx, token, asked, account)
	if j.Verdict == verdict.Live && v.sessions[token.Format()].Ended(ctx, c.SessionID, asked.now, asked.aside) {
		j.Verdict, j.Reason, j.Source, j.Alone = verdict.Stale, verdict.TokenRevoked, accounts.FromDatabase, true
	}
	return j
}

// ownersClaims returns the claims of a session that the app looks up, if its store names
// the user.
func (v *validator) ownersClaims(ctx context.Context, token *session.Token, now time.Time) (claims session.Claims, known bool) {
	c := &token.Claims
	if !c.AppAsks || len(c.SessionID) == 0 || v.sessions[token.Format()] == nil {
		return claims, false
	}
	user, made := v.sessions[token.Format()].Owner(ctx, c.SessionID, now)
	if len(user) == 0 {
		return claims, false
	}
	if made.IsZero() {
		made = now
	}
	return session.Claims{
		Subject: user, SessionID: c.SessionID, IssuedAt: made, MintedAt: made, Lasting: true, SeenAt: c.SeenAt, Match: make([][]byte, len(sessionIDs)),
	}, true
}

// owned returns tokens, those that the app looks up with the claims of their owners.
func (v *validator) owned(ctx context.Context, tokens []session.Token, now time.Time) []session.Token {
	all := tokens
	for i := range tokens {
		if claims, known := v.ownersClaims(ctx, &tokens[i], now); known {
			if &all[0] == &tokens[0] {
				all = slices.Clone(tokens)
			}
			all[i].Claims = claims
		}
	}
	return all
}

// judgeUser judges a token by its user.
func (v *validator) judgeUser(ctx context.Context, token *session.Token, asked asking, account *accounts.Account) verdict.Judgement {
	j := v.judgeOne(ctx, &token.Claims, asked, account)
	v.doubt(token, &j)
	return j
}

// doubt makes a judgement unknown if it finds nobody, and that proves nothing yet.
func (v *validator) doubt(token *session.Token, j *verdict.Judgement) {
	switch {
	case token.Claims.AppAsks, j.Verdict == verdict.Unknown, j.Source == accounts.FromRevocation: // nobody was looked up
	case j.Reason != verdict.UserNotFound:
		v.evidence.Found(token)
	case !v.evidence.Proves(token):
		j.Verdict, j.Reason, j.Guessed = verdict.Unknown, "", true
	}
}

func (v *validator) judgeOne(ctx context.Context, claims *session.Claims, asked asking, account *accounts.Account) verdict.Judgement {
	j := verdict.Judgement{Verdict: verdict.Unknown, Subject: claims.Subject}
	if claims.AppAsks {
		j.Verdict = verdict.Live
		return j
	}
	if len(claims.Subject) == 0 {
		return j
	}
	// Right after the start the revocations may not have been read yet. The
	// account is looked up meanwhile, so that both fit into one deadline.
	ready := v.revoked.Ready()
	var reason verdict.Reason
	if ready {
		reason = v.revocation(claims)
	}
	if reason == "" {
		j = v.judgeAccount(ctx, claims, asked, account)
		if ready || j.Verdict == verdict.Stale {
			return j
		}
		v.revoked.Await(ctx)
		if reason = v.revocation(claims); reason == "" {
			return j
		}
	}
	j.Verdict, j.Reason, j.Source = verdict.Stale, reason, accounts.FromRevocation
	return j
}

// revocation returns why a session was revoked, by its subject or its id; nothing if it
// was not.
func (v *validator) revocation(claims *session.Claims) verdict.Reason {
	if v.revoked.Blocks(claims.Subject) {
		return verdict.UserDisabled
	}
	if until, revoked := v.revoked.Find(claims.Subject); revoked && verdict.Revoked(claims, until, v.accounts.Clocks().Known()) {
		return verdict.TokenRevoked
	}
	if v.matchesSessionID && v.hasID(v.revoked, claims) {
		return verdict.TokenRevoked
	}
	return ""
}

// exists reports whether there is a user with an id, by a lookup past the cache.
func (v *validator) exists(ctx context.Context, id string) (bool, error) {
	var account accounts.Account
	now := time.Now()
	_, err := v.accounts.Lookup(ctx, accounts.Query{Query: directories.Query{Subject: []byte(id), Since: now}, Now: now}, &account)
	return account.Exists, err
}

// hasID reports whether a list has the id of a session.
func (v *validator) hasID(list *revocation.List, claims *session.Claims) bool {
	ids := claims.Match[len(claims.Match)-len(sessionIDs):]
	return list.HasID(ids[0], ids[1])
}

// mayRevoke reports whether a list may revoke a session.
func (v *validator) mayRevoke(list *revocation.List, claims *session.Claims) bool {
	if claims.AppAsks { // whose it is, only the store says
		return len(claims.SessionID) > 0
	}
	_, found := list.Find(claims.Subject)
	return found || list.Blocks(claims.Subject) || v.matchesSessionID && v.hasID(list, claims)
}

// judgeAccount judges a token by the account of its subject.
func (v *validator) judgeAccount(ctx context.Context, claims *session.Claims, asked asking, account *accounts.Account) verdict.Judgement {
	j := verdict.Judgement{Verdict: verdict.Unknown, Subject: claims.Subject}
	if v.matchesSessionID {
		without := *claims // others may judge it at the same time
		without.Match = claims.Match[:len(claims.Match)-len(sessionIDs)]
		claims = &without
	}
	now := asked.now
	query := accounts.Query{Query: directories.Query{Subject: claims.Subject, Since: asked.since}, Now: now, Aside: asked.aside}
	source, err := v.accounts.Lookup(ctx, query, account)
	if err != nil { // logged by the engine
		return j
	}
	decided, reason := v.decide(claims, account, now)
	if decided == verdict.Stale && source == accounts.FromCache {
		query.Ending = true
		if source, err = v.accounts.Lookup(ctx, query, account); err != nil {
			return j
		}
		decided, reason = v.decide(claims, account, now)
	}
	if decided == verdict.Stale && account.Doubted() {
		return j
	}
	minted := claims.MintedAt
	if minted.IsZero() { // possibly just now
		minted = now
	}
	needed := minted.Add(verdict.Leeway)
	if decided == verdict.Stale && account.AsOf.Before(needed) {
		// An account from before the token was issued must not end it: somebody may
		// have signed in right after the account was created or changed.
		query.Since = needed
		if source, err = v.accounts.Lookup(ctx, query, account); err != nil {
			return j
		}
		decided, reason = v.decide(claims, account, now)
		if decided == verdict.Stale && !v.accounts.Proves(account, needed) {
			return j
		}
	}
	j.Verdict, j.Reason, j.Source = decided, reason, source
	return j
}

// decide decides about a token by an account.
func (v *validator) decide(claims *session.Claims, account *accounts.Account, now time.Time) (verdict.Verdict, verdict.Reason) {
	return verdict.Judge(claims, &account.Account, verdict.Times{
		Now: now, Clocks: v.accounts.Clocks().Known(), Replaced: v.accounts.Replaced(account, claims.SeenAt),
	})
}

// judgeNow judges tokens by the current accounts, past the cache.
func (v *validator) judgeNow(ctx context.Context, tokens []session.Token, now time.Time) []verdict.Judgement {
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	return v.judge(ctx, tokens, asking{now: now, since: now}, nil)
}

// measure measures the app's clock by the tokens in a response that were made since
// its request came. A token that keeps the iat of the one that it renews says nothing,
// unless that was made within the same second.
func (v *validator) measure(sent, set *session.Session) {
	for i := range set.Tokens {
		c := &set.Tokens[i].Claims
		kept := slices.ContainsFunc(sent.Tokens, func(t session.Token) bool {
			return t.Claims.MintedAt.Equal(c.MintedAt) && sent.At.Sub(t.Claims.ReadAt) > time.Second
		})
		if c.First && !c.MintedAt.IsZero() && !kept {
			v.accounts.Clocks().App(c.MintedAt, sent.At, set.At)
		}
	}
}

// sessionIDs are the claims with the IDs of a session and of a token, by which
// sessions can be revoked.
var sessionIDs = []string{"sid", "jti"}

// marks returns the marks of the stale tokens.
func marks(tokens []session.Token, judgements []verdict.Judgement) []string {
	var all []string
	for i, j := range judgements {
		if mark := tokens[i].Mark(); j.Verdict == verdict.Stale && mark != "" && !slices.Contains(all, mark) {
			all = append(all, mark)
		}
	}
	return all
}

// judgeAgain judges tokens after the app's answer, by accounts that include every
// change made before since. While the brake is on, it finds only revoked ones
// stale.
func (v *validator) judgeAgain(ctx context.Context, tokens []session.Token, since time.Time) []verdict.Judgement {
	return v.held(v.judge(ctx, tokens, asking{now: time.Now(), since: since}, nil))
}

// held makes those judgements unknown that the brake holds.
func (v *validator) held(judgements []verdict.Judgement) []verdict.Judgement {
	for i := range judgements {
		if j := &judgements[i]; j.Verdict == verdict.Stale && j.Source != accounts.FromRevocation && v.braking() {
			j.Verdict, j.Reason = verdict.Unknown, ""
		}
	}
	return judgements
}

// spread makes the judgement on each token of a response stale if one of the
// request's tokens with the same subject is: the app has renewed it. If that session
// alone has ended, the app has begun another.
func spread(judgements, died []verdict.Judgement) {
	for i, j := range judgements {
		ended := func(d verdict.Judgement) bool {
			return d.Verdict == verdict.Stale && !d.Alone && len(d.Subject) > 0 && bytes.Equal(d.Subject, j.Subject)
		}
		if k := slices.IndexFunc(died, ended); k >= 0 && j.Verdict != verdict.Stale {
			judgements[i] = died[k]
		}
	}
}
