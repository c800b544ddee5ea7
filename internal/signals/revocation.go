package signals

import (
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
	Source

	// The bearer secret of the operator's own scripts, of at least 32 characters. Whoever
	// has it can end the sessions of every user. Default: none.
	Secret string `json:"secret,omitempty"`

	// What the `aud` claim must be or contain: the URL of this endpoint. Default: the
	// origin of AUTH_URL, NEXTAUTH_URL or BETTER_AUTH_URL, and Path.
	Audience string `json:"audience,omitempty"`

	// The domains of the email addresses by which the provider may name users; the
	// secret may name them by any. Default: none.
	EmailDomains identities.Domains `json:"email_domains,omitempty"`
}

// UnmarshalCaddyfile parses the block of `global_token_revocation`.
func (t *TokenRevocation) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return t.unmarshal(d, t.kind(), directive.Options{
		"secret":        directive.Text(&t.Secret),
		"audience":      directive.Text(&t.Audience),
		"email_domains": directive.Texts((*[]string)(&t.EmailDomains)),
	})
}

func (*TokenRevocation) kind() Kind { return Revocation }

func (t *TokenRevocation) open(env environment.Environment, defaults Defaults, keys Keys) (Endpoint, error) {
	common, err := t.endpoint(t.kind(), t.EmailDomains, defaults)
	if err != nil {
		return nil, err
	}
	e := &revoker{endpoint: common}
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
	e.tokens = &tokens{typ: jose.TypeTokenRevocation, algorithms: t.Algorithms, issuer: e.issuer, audience: []string{audience}}
	return e, e.tokens.open(set)
}

// revoker is the endpoint of TokenRevocation. Its tokens are nil if no provider may send
// requests.
type revoker struct {
	endpoint
	secret string // empty for none
	issuer string // of the accounts that users are named by
}

// Serve implements Endpoint.
func (e *revoker) Serve(w http.ResponseWriter, r *http.Request, acquire Acquire) Result {
	challenge := func(w http.ResponseWriter, failed *failure) {
		if failed.status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
			if failed != errNoToken {
				w.Header().Set("WWW-Authenticate", `Bearer error="`+failed.code+`"`)
			}
		}
		refuse(w, failed)
	}
	return answer(w, r, http.StatusNoContent, challenge, func() (Result, *failure) { return e.accept(w, r, acquire) })
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
	body, err := readBody(w, r, e.bodyTimeout)
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

// errNoToken is the failure of a request that says nothing about its sender.
var errNoToken = &failure{status: http.StatusUnauthorized, code: "unauthorized", description: "a bearer token is required"}

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
		return sender{}, errNoToken
	}
	if e.secret != "" && same(credentials, e.secret) {
		return sender{operator: true}, nil
	}
	if e.tokens == nil || len(credentials) > maxBody {
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
	expires, hasExpires := numericDate(claims["exp"])
	begins, hasBegins := numericDate(claims["nbf"])
	issued, hasIssued := numericDate(claims["iat"])
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
	_ Options  = (*TokenRevocation)(nil)
	_ Endpoint = (*revoker)(nil)
)
