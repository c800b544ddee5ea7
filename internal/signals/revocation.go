package signals

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// TokenRevocation ends all sessions of a user at a request of an identity provider, or
// of the operator's own scripts (draft-parecki-oauth-global-token-revocation, which
// Okta's Universal Logout sends). The user can sign in again.
type TokenRevocation struct {
	// The path that requests are POSTed to. Default: `global-token-revocation` below the
	// auth routes, usually /api/auth/global-token-revocation.
	Path string `json:"path,omitempty"`

	// The bearer secret of the operator's own scripts, of at least 32 characters. Whoever
	// has it can end the sessions of every user. Default: none.
	Secret string `json:"secret,omitempty"`

	// The identity provider: the `iss` claim of the tokens that it signs its requests
	// with, and of the accounts that it names. Default: none.
	Issuer string `json:"issuer,omitempty"`

	// The URL or file of the provider's JSON Web Key Set. Default: none, the provider
	// can send nothing.
	JWKS string `json:"jwks,omitempty"`

	// What the `aud` claim must be or contain: the URL of this endpoint. Default: the
	// origin of AUTH_URL, NEXTAUTH_URL or BETTER_AUTH_URL, and Path.
	Audience string `json:"audience,omitempty"`

	// The algorithms of the provider's signatures. Default: RS256.
	Algorithms []string `json:"algorithms,omitempty"`

	identities.Accounts

	// The domains of the email addresses by which the provider may name users; the
	// secret may name them by any. Default: none.
	EmailDomains identities.Domains `json:"email_domains,omitempty"`
}

// UnmarshalCaddyfile parses the block of `global_token_revocation`.
func (t *TokenRevocation) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	options := t.Options()
	options["path"] = directive.Text(&t.Path)
	options["secret"] = directive.Text(&t.Secret)
	options["issuer"] = directive.Text(&t.Issuer)
	options["jwks"] = directive.Text(&t.JWKS)
	options["audience"] = directive.Text(&t.Audience)
	options["algorithms"] = directive.Texts(&t.Algorithms)
	options["email_domains"] = directive.Texts((*[]string)(&t.EmailDomains))
	return directive.Block(d, "global_token_revocation", options)
}

// Open returns the endpoint that the options describe, or an error that names the wrong
// option.
func (t *TokenRevocation) Open(env environment.Environment, defaults Defaults, keys Keys) (Endpoint, error) {
	e, err := t.open(env, defaults, keys)
	if err != nil {
		return nil, fmt.Errorf("global_token_revocation: %w", err)
	}
	return e, nil
}

func (t *TokenRevocation) open(env environment.Environment, defaults Defaults, keys Keys) (*revoker, error) {
	if err := defaults.allow(&t.Accounts, t.EmailDomains); err != nil {
		return nil, err
	}
	e := &revoker{accounts: t.Accounts, domains: t.EmailDomains, now: time.Now, bodyTimeout: BodyTimeout}
	var err error
	if e.path, err = defaults.path(t.Path, "global-token-revocation"); err != nil {
		return nil, err
	}
	if e.secret, err = secret(env, "secret", t.Secret); err != nil {
		return nil, err
	}
	if e.issuer, err = env.Fill("issuer", t.Issuer); err != nil {
		return nil, err
	}
	location, err := env.Fill("jwks", t.JWKS)
	if err != nil {
		return nil, err
	}
	switch {
	case location == "" && e.secret == "":
		return nil, errors.New("set issuer and jwks for an identity provider, or secret for scripts of your own")
	case location == "":
		return e, nil
	case e.issuer == "":
		return nil, errors.New("jwks needs issuer")
	}
	audience := t.Audience
	if audience == "" && defaults.Origin != "" {
		audience = defaults.Origin + e.path
	}
	if audience, err = env.Fill("audience", audience); err != nil {
		return nil, err
	}
	if audience == "" {
		return nil, fmt.Errorf("set audience to the URL of this endpoint, such as https://app.example%s", e.path)
	}
	set, err := keys.KeySet(location)
	if err != nil {
		return nil, err
	}
	if e.tokens, err = openTokens(set, jose.TypeTokenRevocation, t.Algorithms); err != nil {
		return nil, err
	}
	e.tokens.issuer, e.tokens.audience = e.issuer, []string{audience}
	return e, nil
}

// revoker is the endpoint of TokenRevocation.
type revoker struct {
	path        string
	secret      string  // empty for none
	tokens      *tokens // nil if no provider may send requests
	issuer      string
	accounts    identities.Accounts
	domains     identities.Domains
	now         func() time.Time
	bodyTimeout time.Duration
}

// Kind implements Endpoint.
func (*revoker) Kind() Kind { return Revocation }

// At implements Endpoint.
func (e *revoker) At() string { return e.path }

// failure is an answer that is no success.
type failure struct {
	status      int
	code        string // of an error of OAuth 2.0
	description string
	cause       error // for the log; nil if that is the description
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.cause.Error()
	}
	return f.description
}

func invalid(description string) *failure {
	return &failure{status: http.StatusBadRequest, code: "invalid_request", description: description}
}

func unavailable(cause error) *failure {
	return &failure{http.StatusServiceUnavailable, "temporarily_unavailable", "try again later", cause}
}

// errNotFound is the failure that the app has no such user.
var errNotFound = &failure{status: http.StatusNotFound, code: "not_found", description: "there is no such user"}

// Serve implements Endpoint.
func (e *revoker) Serve(w http.ResponseWriter, r *http.Request, acquire Acquire) Result {
	if !IsPost(w, r) {
		return Result{Err: errMethod, Refused: true}
	}
	result, failed := e.accept(w, r, acquire)
	if failed == nil {
		w.WriteHeader(http.StatusNoContent)
		return result
	}
	switch failed.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
		if failed.code != "" {
			w.Header().Set("WWW-Authenticate", `Bearer error="`+failed.code+`"`)
		}
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	}
	WriteJSON(w, failed.status, map[string]string{"error": cmp.Or(failed.code, "unauthorized"), "error_description": failed.description})
	return Result{Err: failed, NotFound: failed == errNotFound, Refused: failed.status != http.StatusServiceUnavailable}
}

// sender is who sends a request.
type sender struct {
	operator bool   // by the secret
	message  string // the ID of the token, which counts once; empty for the secret
}

// accept ends the sessions of the user that a request names.
func (e *revoker) accept(w http.ResponseWriter, r *http.Request, acquire Acquire) (Result, *failure) {
	by, failed := e.authenticate(r.Header.Get("Authorization"))
	if failed != nil {
		return Result{}, failed
	}
	now := e.now()
	body, err := ReadBody(w, r, e.bodyTimeout)
	switch {
	case errors.Is(err, errTooLong):
		return Result{}, &failure{status: http.StatusRequestEntityTooLarge, code: "invalid_request", description: err.Error()}
	case err != nil:
		return Result{}, invalid(err.Error())
	}
	named, failed := parseUser(body)
	if failed != nil {
		return Result{}, failed
	}
	to, release := acquire()
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), applyTimeout)
	defer cancel()
	users, failed := e.find(ctx, named, by, to)
	if failed != nil {
		return Result{}, failed
	}
	revoked := make([]revocation.Revocation, 0, len(users))
	for _, user := range users {
		revoked = append(revoked, revocation.Revocation{Subject: user, At: now})
	}
	again, err := to.Sessions.Apply(r.Context(), by.message, revoked)
	switch {
	case errors.Is(err, revocation.ErrFull):
		return Result{}, &failure{http.StatusUnprocessableEntity, "unprocessable", "the sessions cannot be ended", err}
	case err != nil:
		return Result{}, unavailable(err)
	case again && !ended(to.Sessions, users):
		return Result{}, unauthorized("the token was used before, for another user")
	}
	return Result{Revoked: revoked, Again: again}, nil
}

// ended reports whether sessions of all users were revoked.
func ended(list *revocation.List, users []string) bool {
	for _, user := range users {
		if _, found := list.Find([]byte(user)); !found {
			return false
		}
	}
	return true
}

func unauthorized(description string) *failure {
	return &failure{status: http.StatusUnauthorized, code: "invalid_token", description: description}
}

// maxLife is the longest life of a token.
const maxLife = time.Hour

// authenticate finds out who sends a request, from its Authorization header, without
// reading more of it.
func (e *revoker) authenticate(header string) (sender, *failure) {
	scheme, credentials, _ := strings.Cut(header, " ")
	if credentials = strings.TrimSpace(credentials); !strings.EqualFold(scheme, "Bearer") || credentials == "" {
		return sender{}, &failure{status: http.StatusUnauthorized, description: "a bearer token is required"}
	}
	if e.secret != "" && same(credentials, e.secret) {
		return sender{operator: true}, nil
	}
	if e.tokens == nil || len(credentials) > MaxBody {
		return sender{}, unauthorized("the bearer token is not valid")
	}
	claims, err := e.tokens.verify(credentials)
	switch {
	case errors.Is(err, jose.ErrKeysUnavailable):
		return sender{}, unavailable(err)
	case err != nil:
		return sender{}, unauthorized(err.Error())
	}
	now := e.now()
	expires, hasExpires := seconds(claims["exp"])
	begins, hasBegins := seconds(claims["nbf"])
	issued, hasIssued := seconds(claims["iat"])
	id := text(claims, "jti")
	switch {
	case !hasExpires || expires.Before(now.Add(-leeway)):
		return sender{}, unauthorized("exp is missing or in the past")
	case expires.After(now.Add(maxLife)):
		return sender{}, unauthorized("exp is more than an hour ahead")
	case hasBegins && begins.After(now.Add(leeway)) || hasIssued && issued.After(now.Add(leeway)):
		return sender{}, unauthorized("nbf or iat is in the future")
	case id == "":
		return sender{}, unauthorized("jti is missing")
	}
	return sender{message: messageID("revocation", e.issuer, id)}, nil
}

// parseUser returns the subject identifier of a body.
func parseUser(body []byte) (map[string]any, *failure) {
	request, err := jose.ParsePayload(body)
	if err != nil {
		return nil, invalid("the body is not a JSON object")
	}
	named, _ := request["sub_id"].(map[string]any)
	before, _ := request["subject"].(map[string]any) // draft 01, and Auth0
	if (named == nil) == (before == nil) {
		return nil, invalid("the body needs a sub_id, an object")
	}
	if named == nil {
		named = before
	}
	return named, nil
}

// find returns the users that a request names. A provider speaks for its own accounts
// only; the operator for all.
func (e *revoker) find(ctx context.Context, named map[string]any, by sender, to Target) (users []string, failed *failure) {
	var err error
	id, err := identifier(named)
	if err != nil {
		return nil, invalid(err.Error())
	}
	switch id.format {
	case formatAccount:
		if e.issuer == "" || id.issuer != e.issuer {
			return nil, forbidden("iss is not the configured issuer")
		}
		users, err = e.accounts.Find(ctx, to.Users, id.value)
	case formatEmail:
		switch {
		case !by.operator:
			users, err = e.domains.Find(ctx, to.Users, id.value)
		case to.Users == nil:
			err = identities.ErrUnsupported
		default:
			users, err = to.Users.ByEmail(ctx, id.value)
		}
	case formatOpaque:
		if !by.operator {
			return nil, forbidden("only the operator may name users by the app's own ids")
		}
		var exists bool
		if exists, err = to.Exists(ctx, id.value); exists {
			users = []string{id.value}
		}
	default:
		return nil, invalid("the format of the subject is not supported; it must be one of iss_sub, email, opaque")
	}
	switch {
	case errors.Is(err, identities.ErrNotAllowed):
		return nil, &failure{http.StatusForbidden, "access_denied", "the sender may not name users this way", err}
	case errors.Is(err, identities.ErrUnsupported):
		return nil, &failure{http.StatusUnprocessableEntity, "unprocessable", "users cannot be found this way", err}
	case err != nil:
		return nil, unavailable(err)
	case len(users) == 0:
		return nil, errNotFound
	}
	return users, nil
}

func forbidden(description string) *failure {
	return &failure{status: http.StatusForbidden, code: "access_denied", description: description}
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*TokenRevocation)(nil)
	_ Endpoint              = (*revoker)(nil)
)
