package stalesession

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// validator takes a request to a verdict: cookies, token, claims, account,
// verdict.
type validator struct {
	reader    *session.Reader
	directory directory.Directory
	matches   []verdict.Match
	timeout   time.Duration
}

// validate checks the session of a request. It does not change the request.
func (v *validator) validate(r *http.Request) verdict.Check {
	s := v.reader.Read(r.Header)
	if len(s.Tokens) == 0 {
		return verdict.Whole(s, nil)
	}
	return verdict.Whole(s, v.judge(r.Context(), s.Tokens))
}

// judge judges each token, in v.timeout altogether.
func (v *validator) judge(ctx context.Context, tokens []session.Token) []verdict.Judgement {
	if len(tokens) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, v.timeout)
		defer cancel()
	}
	judged := make([]verdict.Judgement, len(tokens))
	for i, token := range tokens {
		judged[i] = v.judgeOne(ctx, token.Claims)
	}
	return judged
}

func (v *validator) judgeOne(ctx context.Context, claims session.Claims) verdict.Judgement {
	j := verdict.Judgement{Verdict: verdict.Unknown, Subject: claims.Subject}
	if claims.Subject == "" {
		return j
	}
	account, source, err := v.directory.Lookup(ctx, claims.Subject, time.Time{})
	if err != nil { // the directory has logged it
		return j
	}
	now := time.Now()
	decided, reason := verdict.Judge(claims, account, v.matches, now)
	if known := claims.MintedAt.Add(verdict.Leeway); decided == verdict.Stale && account.AsOf.Before(known) {
		// What was known before the token was made must not end it: somebody
		// may have signed in right after the account came or changed.
		if account, source, err = v.directory.Lookup(ctx, claims.Subject, known); err != nil {
			return j
		}
		decided, reason = verdict.Judge(claims, account, v.matches, now)
	}
	j.Verdict, j.Reason, j.Source = decided, reason, source
	return j
}

// stale returns the judgement on the first of the tokens that is stale by now,
// nil when none is.
func (v *validator) stale(r *http.Request, tokens []session.Token) *verdict.Judgement {
	if len(tokens) == 0 {
		return nil
	}
	for _, j := range v.judge(r.Context(), tokens) {
		if j.Verdict == verdict.Stale {
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
		if slices.ContainsFunc(response, func(set session.Token) bool { return set.Claims.Subject == sent.Claims.Subject }) {
			same = append(same, sent)
		}
	}
	return same
}

// newValidator sets the validator of a handler up, and acquires the directory
// and the key set that it shares with other handlers.
func (h *Handler) newValidator(env environment.Environment) (*validator, error) {
	users := h.Users
	if users == nil {
		users = new(Users)
	}
	v := &validator{timeout: cmp.Or(time.Duration(h.Timeout), 500*time.Millisecond)}
	for _, claim := range slices.Sorted(maps.Keys(users.Match)) {
		v.matches = append(v.matches, verdict.Match{Claim: claim, Column: users.Match[claim]})
	}
	var err error
	if v.reader, err = h.newReader(env, v.matches); err != nil {
		return nil, err
	}
	if v.directory, err = h.acquireDirectory(users, v); err != nil {
		return nil, err
	}
	return v, nil
}

// newReader sets up what reads the session cookies.
func (h *Handler) newReader(env environment.Environment, matches []verdict.Match) (*session.Reader, error) {
	config := session.Config{Subject: h.Subject, IssuedAt: h.IssuedAt}
	for _, match := range matches {
		config.Match = append(config.Match, match.Claim)
	}
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
	if h.KeyFile != "" {
		if config.PublicKeys, err = readKeys(env, h.KeyFile); err != nil {
			return nil, fmt.Errorf("key_file: %w", err)
		}
	}
	if h.JWKS != "" {
		if config.JWKS, err = h.acquireKeySet(env); err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
	}
	return session.New(config)
}

// readKeys reads the public keys of a PEM file.
func readKeys(env environment.Environment, file string) ([]crypto.PublicKey, error) {
	path, err := env.Fill("path", file)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return session.ParsePublicKeys(pem)
}

// What handlers share, and what outlives a reload of the configuration: all
// that have the same database, users and cache use one directory, and all that
// have the same JWKS one key set.
var (
	directories = caddy.NewUsagePool()
	keySets     = caddy.NewUsagePool()
)

// shared is a value of the pools above.
type shared[T any] struct {
	value T
	close func() error
}

// Destruct closes the value once nobody uses it any more.
func (s shared[T]) Destruct() error { return s.close() }

// acquire takes a value from a pool, or puts the one there that open makes. It
// adds to h.held how to give it back.
func acquire[T any](h *Handler, pool *caddy.UsagePool, key any, open func() (shared[T], error)) (T, error) {
	pooled, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) { return open() })
	if err != nil {
		var none T
		return none, err
	}
	h.held = append(h.held, func() error {
		_, err := pool.Delete(key)
		return err
	})
	return pooled.(shared[T]).value, nil
}

// acquireKeySet takes the key set of the JWKS.
func (h *Handler) acquireKeySet(env environment.Environment) (*session.JWKS, error) {
	location, err := env.Fill("location", h.JWKS)
	if err != nil {
		return nil, err
	}
	return acquire(h, keySets, location, func() (shared[*session.JWKS], error) {
		keys, err := session.OpenJWKS(location, func(err error) {
			caddy.Log().Named("http.handlers.stale_session").Error("the JSON Web Key Set cannot be fetched", zap.Error(err))
		})
		if err != nil {
			return shared[*session.JWKS]{}, err
		}
		return shared[*session.JWKS]{keys, keys.Close}, nil
	})
}

// acquireDirectory takes the directory of the database and users table.
func (h *Handler) acquireDirectory(users *Users, v *validator) (directory.Directory, error) {
	resolve := func() (string, error) {
		return environment.New().Fill("database", cmp.Or(h.Database, "{env.DATABASE_URL}"))
	}
	dsn, err := resolve()
	if err != nil {
		return nil, fmt.Errorf("%w; set DATABASE_URL in Caddy's environment to the app's database, or add `database`", err)
	}
	config := directory.Config{
		Users: directory.Users{
			Table: users.Table, ID: users.ID, CreatedAt: users.CreatedAt, ValidAfter: users.ValidAfter, Disabled: users.Disabled,
		},
		Query:   h.Query,
		Timeout: v.timeout,
	}
	for _, match := range v.matches {
		config.Users.Match = append(config.Users.Match, match.Column)
	}
	if h.Cache != nil {
		config.TTL, config.Size = time.Duration(h.Cache.TTL), h.Cache.Size
	}
	key, err := json.Marshal(struct {
		DSN, Database string
		directory.Users
		Query   string
		Timeout time.Duration
		Cache   *Cache
	}{dsn, h.Database, config.Users, h.Query, v.timeout, h.Cache})
	if err != nil {
		return nil, err
	}
	config.DSN = resolve
	config.Logger = func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.directory") }
	return acquire(h, directories, sha256.Sum256(key), func() (shared[*directory.Postgres], error) {
		postgres, err := directory.Open(config)
		if err != nil {
			return shared[*directory.Postgres]{}, err
		}
		return shared[*directory.Postgres]{postgres, func() error { postgres.Close(); return nil }}, nil
	})
}
