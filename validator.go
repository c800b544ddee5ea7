package stalesession

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cleanup"
	"github.com/seed-4adef13c/caddy-stale-session/internal/command"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// validator takes a request to a verdict: cookies, token, claims, account,
// verdict.
type validator struct {
	reader    *session.Reader
	revoked   *revocation.List
	directory *directory.Postgres
	timeout   time.Duration
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
	if until, revoked := v.revoked.Find(claims.Subject); revoked && !claims.IssuedAt.After(until) {
		j.Verdict, j.Reason, j.Source = verdict.Stale, verdict.TokenRevoked, directory.FromRevocation
		return j
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

// newValidator sets the validator of a handler up, from what it shares with
// other handlers.
func (h *Handler) newValidator(ctx caddy.Context, env environment.Environment) (*validator, error) {
	config, err := h.directoryConfig()
	if err != nil {
		return nil, err
	}
	v := &validator{timeout: config.Timeout}
	if v.reader, err = h.acquireReader(env); err != nil {
		return nil, err
	}
	if v.directory, err = h.acquireDirectory(config); err != nil {
		return nil, err
	}
	v.revoked, err = h.acquireRevoked(ctx, v.directory.String())
	return v, err
}

// matched returns the claims that have to equal columns, in the order in which
// both are compared.
func (h *Handler) matched() []string {
	if h.Users == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(h.Users.Match))
}

// directoryConfig says where and how users are looked up.
func (h *Handler) directoryConfig() (directory.Config, error) {
	config := directory.Config{
		DSN:      fill("database", cmp.Or(h.Database, "{env.DATABASE_URL}")),
		Query:    h.Query,
		Timeout:  cmp.Or(time.Duration(h.Timeout), 500*time.Millisecond),
		Observer: telemetry.Directories{},
		Logger:   func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.directory") },
	}
	if h.ListenDatabase != "" {
		config.ListenDSN = fill("listen_database", h.ListenDatabase)
	}
	if u := h.Users; u != nil {
		config.Users = directory.Users{Table: u.Table, ID: u.ID, CreatedAt: u.CreatedAt, ValidAfter: u.ValidAfter, Disabled: u.Disabled}
		for _, claim := range h.matched() {
			config.Users.Match = append(config.Users.Match, u.Match[claim])
		}
	}
	if h.Cache != nil {
		config.TTL, config.Size = time.Duration(h.Cache.TTL), h.Cache.Size
	}
	var err error
	if config.Poll, err = readPoll(h.Poll); err != nil {
		return config, err
	}
	if h.Brake != nil {
		config.BrakeWindow = cmp.Or(time.Duration(h.Brake.Window), time.Minute)
		config.BrakeShare, err = readShare(h.Brake.Share)
	}
	return config, err
}

// configured returns the handlers of a configuration.
func configured(config []byte) ([]command.Site, error) {
	var tree any
	if err := json.Unmarshal(config, &tree); err != nil {
		return nil, err
	}
	var found []command.Site
	var walk func(node any) error
	walk = func(node any) error {
		switch node := node.(type) {
		case []any:
			for _, inner := range node {
				if err := walk(inner); err != nil {
					return err
				}
			}
		case map[string]any:
			if node["handler"] != "stale_session" {
				return walk(slices.Collect(maps.Values(node)))
			}
			text, err := json.Marshal(node)
			if err != nil {
				return err
			}
			h := new(Handler)
			if err := json.Unmarshal(text, h); err != nil {
				return err
			}
			config, err := h.directoryConfig()
			found = append(found, command.Site{
				Directory: config,
				Reader:    func() (*session.Reader, error) { return h.acquireReader(environment.New()) },
			})
			return err
		}
		return nil
	}
	return found, walk(tree)
}

// What handlers share, and what outlives a reload of the configuration: all
// that read the same tokens in the same way use one reader, all that have the
// same database, users and cache one directory, and all that have the same
// JWKS one key set.
var (
	readers     = shared.NewPool[*session.Reader]()
	directories = shared.NewPool[*directory.Postgres]()
	keySets     = shared.NewPool[*session.JWKS]()
	cleanups    = shared.NewPool[*cleanup.Job]()
	revoked     = shared.NewPool[*revocation.List]()
)

// acquire takes a value from a pool until the handler is cleaned up.
func acquire[T any](h *Handler, pool shared.Pool[T], distinct any, open func() (T, func() error, error)) (T, error) {
	value, release, err := pool.Acquire(distinct, open)
	if err == nil {
		h.held = append(h.held, release)
	}
	return value, err
}

// acquireReader takes what reads the session cookies.
func (h *Handler) acquireReader(env environment.Environment) (*session.Reader, error) {
	config := session.Config{Subject: h.Subject, IssuedAt: h.IssuedAt, Match: h.matched()}
	var err error
	if config.CookieNames, err = env.FillAll("cookies", h.Cookies); err != nil {
		return nil, err
	}
	if config.Secrets, err = env.FillAll("secrets", h.Secrets); err != nil {
		return nil, err
	}
	if len(config.Secrets) == 0 && h.KeyFile == "" && h.JWKS == "" {
		if config.Secrets, err = env.Secrets(); err != nil {
			return nil, err
		}
	}
	if config.Issuer, err = env.Fill("issuer", h.Issuer); err != nil {
		return nil, err
	}
	if config.Audience, err = env.Fill("audience", h.Audience); err != nil {
		return nil, err
	}
	if h.Cache != nil {
		config.CacheBytes = h.Cache.Size * tokenBytes
	}
	distinct := struct {
		session.Config
		Keys []byte
		JWKS string
	}{Config: config}
	if h.KeyFile != "" {
		if distinct.Keys, config.PublicKeys, err = readKeys(env, h.KeyFile); err != nil {
			return nil, fmt.Errorf("key_file: %w", err)
		}
	}
	if h.JWKS != "" {
		if distinct.JWKS, err = env.Fill("jwks", h.JWKS); err != nil {
			return nil, err
		}
		if config.JWKS, err = h.acquireKeySet(distinct.JWKS); err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
	}
	return acquire(h, readers, distinct, func() (*session.Reader, func() error, error) {
		reader, err := session.New(config)
		return reader, func() error { return nil }, err
	})
}

// tokenBytes is the room for what tokens say, for each account.
const tokenBytes = 120

// readKeys reads the public keys of a PEM file.
func readKeys(env environment.Environment, file string) ([]byte, []crypto.PublicKey, error) {
	path, err := env.Fill("path", file)
	if err != nil {
		return nil, nil, err
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	keys, err := session.ParsePublicKeys(pem)
	return pem, keys, err
}

// acquireKeySet takes the key set of a JWKS.
func (h *Handler) acquireKeySet(location string) (*session.JWKS, error) {
	return acquire(h, keySets, location, func() (*session.JWKS, func() error, error) {
		keys, err := session.OpenJWKS(location, func(err error) {
			caddy.Log().Named("http.handlers.stale_session").Error("the JSON Web Key Set cannot be fetched", zap.Error(err))
		})
		if err != nil {
			return nil, nil, err
		}
		return keys, keys.Close, nil
	})
}

// acquireDirectory takes the directory of the database and users table.
func (h *Handler) acquireDirectory(config directory.Config) (*directory.Postgres, error) {
	distinct := struct {
		directory.Config
		DSN, Database, ListenDSN, ListenDatabase string
	}{Config: config, Database: h.Database, ListenDatabase: h.ListenDatabase}
	var err error
	if distinct.DSN, err = config.DSN(); err != nil {
		return nil, fmt.Errorf("%w; set DATABASE_URL in Caddy's environment to the app's database, or add `database`", err)
	}
	if config.ListenDSN != nil {
		if distinct.ListenDSN, err = config.ListenDSN(); err != nil {
			return nil, err
		}
	}
	return acquire(h, directories, distinct, func() (*directory.Postgres, func() error, error) {
		postgres, err := directory.Open(config)
		if err != nil {
			return nil, nil, err
		}
		return postgres, func() error { postgres.Close(); return nil }, nil
	})
}

// startCleanup starts the cleanup of sessions, if one is configured.
func (h *Handler) startCleanup() error {
	c := h.SessionCleanup
	if c == nil {
		return nil
	}
	if c.Every != 0 && time.Duration(c.Every) < time.Minute {
		return fmt.Errorf("every is %s; it must be 1m or more", time.Duration(c.Every))
	}
	users, err := h.directoryConfig()
	if err != nil {
		return err
	}
	if c.Database != "" {
		users.DSN = fill("database", c.Database)
	}
	dsn, err := users.DSN()
	if err != nil {
		return err
	}
	config := cleanup.Config{
		Directory: users, Every: cmp.Or(time.Duration(c.Every), time.Hour), Sessions: c.Sessions, DryRun: c.DryRun,
		Logger:  func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.cleanup") },
		Removed: telemetry.CleanedUp,
	}
	_, err = acquire(h, cleanups, []any{dsn, config}, func() (*cleanup.Job, func() error, error) {
		job, err := cleanup.Start(config)
		if err != nil {
			return nil, nil, err
		}
		return job, job.Close, nil
	})
	return err
}

// site is what the admin API sees of the handler.
func (h *Handler) site() admin.Site {
	return admin.Site{Mode: h.mode, Directory: h.validator.directory, Revoked: h.validator.revoked, Explain: h.explain}
}

// explain judges a session past every cache.
func (h *Handler) explain(ctx context.Context, q admin.Question) admin.Reasoning {
	v := h.validator
	r := admin.Reasoning{Mode: h.mode, Database: v.directory.String()}
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

// handlers are the handlers in use.
var handlers struct {
	sync.Mutex
	all []*Handler
}

// sites returns what the admin API sees of the handlers in use.
func sites() []admin.Site {
	handlers.Lock()
	defer handlers.Unlock()
	all := make([]admin.Site, len(handlers.all))
	for i, h := range handlers.all {
		all[i] = h.site()
	}
	return all
}

// enlist makes the handler known to the admin API until it is cleaned up.
func (h *Handler) enlist() {
	handlers.Lock()
	defer handlers.Unlock()
	handlers.all = append(handlers.all, h)
	h.held = append(h.held, func() error {
		handlers.Lock()
		defer handlers.Unlock()
		handlers.all = slices.DeleteFunc(handlers.all, func(other *Handler) bool { return other == h })
		return nil
	})
}

// acquireRevoked takes the list of sessions that were ended by hand, of the
// database of a name.
func (h *Handler) acquireRevoked(ctx caddy.Context, name string) (*revocation.List, error) {
	storage := ctx.Storage()
	return acquire(h, revoked, []string{name, fmt.Sprint(storage)}, func() (*revocation.List, func() error, error) {
		list, err := revocation.Open(ctx, storage, name)
		if err != nil { // better none than no app
			ctx.Logger().Error("sessions that were ended by hand are not known", zap.Error(err))
		}
		return list, func() error { return nil }, nil
	})
}

// fill returns a function that fills an option in, anew each time.
func fill(name, value string) func() (string, error) {
	return func() (string, error) { return environment.New().Fill(name, value) }
}

// readPoll reads how often the database is polled: below 0 for never.
func readPoll(text string) (time.Duration, error) {
	switch text {
	case "":
		return 0, nil
	case off:
		return -1, nil
	}
	poll, err := caddy.ParseDuration(text)
	if err != nil || poll < minPoll || poll > maxPoll {
		return 0, fmt.Errorf("poll is %q; it can be a time from %s to %s, or off", text, minPoll, maxPoll)
	}
	return poll, nil
}

// readShare reads a percentage.
func readShare(text string) (float64, error) {
	number, isPercentage := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil || !isPercentage || !(percent > 0 && percent <= 100) {
		return 0, fmt.Errorf("the share of brake is %q; it can be a percentage above 0, such as 50%%", text)
	}
	return percent / 100, nil
}
