package stalesession

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
	"github.com/seed-4adef13c/caddy-stale-session/internal/command"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// validator takes a request to a verdict: cookies, token, claims, account,
// verdict.
type validator struct {
	reader    *session.Reader
	revoked   *revocation.List
	directory directory.Directory
	timeout   time.Duration
	named     bool // sessions may be ended by the claims of namedBy, which come last of those to match
}

// judged is what becomes of a request's session. It is made once for each, so
// that the usual one needs no further memory.
type judged struct {
	session session.Session
	one     [1]verdict.Judgement
	check   verdict.Check
}

// accounts are reused: no request needs one for longer than a judgement.
var accounts = sync.Pool{New: func() any { return new(directory.Account) }}

// validate checks the session of a request. It does not change the request.
func (v *validator) validate(r *http.Request, x *exchange) {
	v.reader.Read(r.Header, &x.session)
	var judgements []verdict.Judgement
	if len(x.session.Tokens) > 0 {
		judgements = v.judge(r.Context(), x.session.Tokens, x.session.At, time.Time{}, x.one[:0])
	}
	x.check = verdict.Whole(&x.session, judgements)
	x.check.Held = (x.check.Verdict == verdict.Stale && x.check.Source != directory.FromRevocation || x.check.Dissent != nil) && v.directory.Braking()
}

// judge appends the judgement on each token, by what is known since a time. It
// takes no longer than v.timeout altogether.
func (v *validator) judge(ctx context.Context, tokens []session.Token, now, since time.Time, judgements []verdict.Judgement) []verdict.Judgement {
	if len(tokens) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, v.timeout)
		defer cancel()
	}
	account := accounts.Get().(*directory.Account)
	defer accounts.Put(account)
	for i := range tokens {
		judgements = append(judgements, v.judgeOne(ctx, &tokens[i].Claims, now, since, account))
	}
	return judgements
}

func (v *validator) judgeOne(ctx context.Context, claims *session.Claims, now, since time.Time, account *directory.Account) verdict.Judgement {
	j := verdict.Judgement{Verdict: verdict.Unknown, Subject: claims.Subject}
	if len(claims.Subject) == 0 {
		return j
	}
	v.revoked.Await(ctx)
	if until, revoked := v.revoked.Find(claims.Subject); revoked && !claims.IssuedAt.After(until) {
		j.Verdict, j.Reason, j.Source = verdict.Stale, verdict.TokenRevoked, directory.FromRevocation
		return j
	}
	if v.named {
		all := claims.Match
		n := len(all) - len(namedBy)
		if v.revoked.Ended(all[n], all[n+1]) {
			j.Verdict, j.Reason, j.Source = verdict.Stale, verdict.TokenRevoked, directory.FromRevocation
			return j
		}
		claims.Match = all[:n]
		defer func() { claims.Match = all }()
	}
	query := directory.Query{Subject: claims.Subject, Now: now, Since: since}
	source, err := v.directory.Lookup(ctx, query, account)
	if err != nil { // the directory has logged it
		return j
	}
	decided, reason := verdict.Judge(claims, account, query.Now)
	minted := claims.MintedAt
	if minted.IsZero() { // it may be of this moment
		minted = query.Now
	}
	if known := minted.Add(verdict.Leeway); decided == verdict.Stale && account.AsOf.Before(known) {
		// What was known before the token was made must not end it: somebody
		// may have signed in right after the account came or changed.
		query.Since = known
		if source, err = v.directory.Lookup(ctx, query, account); err != nil {
			return j
		}
		decided, reason = verdict.Judge(claims, account, query.Now)
	}
	j.Verdict, j.Reason, j.Source = decided, reason, source
	return j
}

// stale returns the judgement on the first of the tokens that is stale by now
// and is to be ended, nil when none is. What is known from before since is not
// good enough.
func (v *validator) stale(r *http.Request, tokens []session.Token, since time.Time) *verdict.Judgement {
	if len(tokens) == 0 {
		return nil
	}
	for _, j := range v.judge(r.Context(), tokens, time.Now(), since, nil) {
		if j.Verdict == verdict.Stale && (j.Source == directory.FromRevocation || !v.directory.Braking()) {
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

// The claims that sessions are ended by besides their subject, in the order in
// which they come after those to match.
var namedBy = []string{"sid", "jti"}

// named tells whether sessions can be ended by these claims.
func (h *Handler) named() bool { return h.BackchannelLogout != nil || h.LogoutWebhook != nil }

// newValidator sets the validator of a handler up, from what it shares with
// other handlers.
func (h *Handler) newValidator(env environment.Environment, held *provision.Held) (*validator, error) {
	v := &validator{timeout: h.accounts().Timeout, named: h.named()}
	var err error
	if v.reader, err = h.reader(env, held); err != nil {
		return nil, err
	}
	if v.directory, err = held.Directory(h.directories, h.accounts()); err != nil {
		return nil, err
	}
	v.revoked, err = held.Revoked(h.Revocations, h.storage, v.directory)
	return v, err
}

// borrow returns the validator, and what keeps it in use until it is returned.
// A request that comes here after a reload has replaced the configuration, such
// as one that was held up on its way, gets one like it.
func (h *Handler) borrow() (*validator, *provision.Lent) {
	if h.lent.Borrow() {
		return h.validator, &h.lent
	}
	late := new(provision.Lent)
	late.Borrow()
	v, err := h.newValidator(environment.New(), &late.Held)
	if err = errors.Join(err, late.Release()); err != nil { // it is given back with the request's return
		caddy.Log().Named("http.handlers.stale_session").Error("a request that a reload has overtaken cannot be checked", zap.Error(err))
		v = h.validator // which knows nothing any more
	}
	return v, late
}

// reader acquires the reader of the session tokens.
func (h *Handler) reader(env environment.Environment, held *provision.Held) (*session.Reader, error) {
	match, err := h.directories.Matched()
	if err != nil {
		return nil, err
	}
	if h.named() {
		match = slices.Concat(match, namedBy)
	}
	tokens := 0
	if h.Cache != nil {
		tokens = h.Cache.Size // one for each account
	}
	return held.Reader(env, h.TokenOptions, match, tokens)
}

// accounts says how accounts are kept, of any directory.
func (h *Handler) accounts() directory.Config {
	config := directory.Config{
		Timeout:  cmp.Or(time.Duration(h.Timeout), directory.DefaultTimeout),
		Observer: telemetry.Directories{},
		Logger:   func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.directory") },
	}
	if h.Cache != nil {
		config.TTL, config.Size = time.Duration(h.Cache.TTL), h.Cache.Size
	}
	return config
}

// postgres is the directory that the handler's own options stand for.
func (h *Handler) postgres() directories.Postgres {
	return directories.Postgres{
		Database: h.Database, Users: h.Users, Query: h.Query,
		Poll: h.Poll, ListenDatabase: h.ListenDatabase, Brake: h.Brake,
	}
}

// loadDirectories loads the modules that look users up.
func (h *Handler) loadDirectories(ctx caddy.Context) error {
	if len(h.DirectoriesRaw) == 0 {
		h.directories = provision.Modules{h.postgres()}
		return nil
	}
	if h.postgres() != (directories.Postgres{}) {
		return errors.New("database, users, query, poll, listen_database and brake stand in the block of `directory postgres` where there is a `directory`")
	}
	modules, err := ctx.LoadModule(h, "DirectoriesRaw")
	if err != nil {
		return fmt.Errorf("loading directories: %w", err)
	}
	h.directories = modules.([]any)
	return nil
}

// describe is what the commands that read a configuration see of a handler.
func describe(text []byte) (command.Site, error) {
	var site command.Site
	h := new(Handler)
	if err := json.Unmarshal(text, h); err != nil {
		return site, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := h.loadDirectories(ctx); err != nil {
		return site, err
	}
	if postgres, ok := h.directories.Postgres(); ok {
		config, err := postgres.Config(h.accounts())
		if err != nil {
			return site, err
		}
		site.Directory = &config
	}
	site.Reader = func() (*session.Reader, error) { return h.reader(environment.New(), &h.lent.Held) }
	site.Examine = func(ctx context.Context) []directory.Finding {
		return provision.Examine(ctx, h.directories, h.Revocations)
	}
	site.SignIn = func() (string, error) { return environment.New().SignInURL(h.SignIn) }
	return site, nil
}

// explain judges a session past every cache.
func (v *validator) explain(ctx context.Context, q admin.Question) admin.Reasoning {
	r := admin.Reasoning{Database: v.directory.String()}
	s := new(session.Session)
	switch {
	case q.Subject != "":
		s.Tokens = []session.Token{{Claims: session.Claims{Subject: []byte(q.Subject)}}}
	case q.Cookies != "":
		v.reader.Read(http.Header{"Cookie": {q.Cookies}}, s)
	default:
		v.reader.ReadToken(q.Token, s)
	}
	r.Failure = string(s.Failure)
	now := time.Now()
	check := verdict.Whole(s, v.judge(ctx, s.Tokens, now, now, nil))
	r.Verdict, r.Reason, r.Source = string(check.Verdict), string(check.Reason), string(check.Source)
	if q.Subject == "" {
		for _, token := range s.Tokens {
			r.Tokens = append(r.Tokens, admin.Token{
				Cookies: token.Names, Subject: string(token.Claims.Subject),
				IssuedAt: moment(token.Claims.IssuedAt), ExpiresAt: moment(token.Claims.ExpiresAt),
			})
		}
	}
	if len(check.Subject) == 0 {
		return r
	}
	if at, revoked := v.revoked.Find(check.Subject); revoked {
		r.Revoked = &at
	}
	var account directory.Account
	if _, err := v.directory.Lookup(ctx, directory.Query{Subject: check.Subject, Now: time.Now()}, &account); err != nil {
		r.Error = err.Error()
		return r
	}
	r.Account = &admin.Account{Exists: account.Exists, Disabled: account.Disabled, CreatedAt: moment(account.CreatedAt), ValidAfter: moment(account.ValidAfter)}
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
