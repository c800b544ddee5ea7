package signals

import (
	"cmp"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// Backchannel lets an OpenID provider end sessions, by OpenID Connect
// Back-Channel Logout 1.0: those of the user whose account at the provider a logout
// token names by its `sub`, or the one with its `sid`, which an Auth.js app puts into
// the session in its jwt callback.
type Backchannel struct {
	Source

	// The app's client ID, which the `aud` claim must be or contain. Default: the
	// handler's Audience.
	Audience string `json:"audience,omitempty"`

	// What a logout token with a `sid` ends: that `session`, or all sessions of
	// the `user`. Default: session.
	Ends string `json:"ends,omitempty"`
}

// The values of Backchannel.Ends.
const (
	endsSession = "session"
	endsUser    = "user"
)

// UnmarshalCaddyfile parses the block of `backchannel_logout`.
func (b *Backchannel) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return b.unmarshal(d, b.kind(), directive.Options{
		"audience": directive.Text(&b.Audience),
		"ends":     directive.Text(&b.Ends),
	})
}

func (*Backchannel) kind() Kind { return BackchannelLogout }

func (b *Backchannel) open(env environment.Environment, defaults Defaults, keys Keys) (Endpoint, error) {
	common, err := b.endpoint(b.kind(), nil, defaults)
	if err := errors.Join(err, directive.OneOf("ends", b.Ends, endsSession, endsUser)); err != nil {
		return nil, err
	}
	if b.Ends == endsUser && !b.Known() {
		return nil, errors.New("`ends user` needs `provider`, or `sub_is_user_id`")
	}
	issuer, err := env.Fill("issuer", cmp.Or(b.Issuer, defaults.Issuer))
	if err != nil {
		return nil, err
	}
	audience, err := env.Fill("audience", cmp.Or(b.Audience, defaults.Audience))
	if err != nil {
		return nil, err
	}
	location, err := env.Fill("jwks", cmp.Or(b.JWKS, defaults.JWKS))
	if err != nil {
		return nil, err
	}
	if issuer == "" || audience == "" || location == "" {
		return nil, errors.New("issuer, audience and jwks are required")
	}
	set, err := keys.KeySet(location)
	if err != nil {
		return nil, err
	}
	e := &logout{endpoint: common, endsUser: b.Ends == endsUser, used: make(map[string]time.Time)}
	e.tokens = &tokens{typ: jose.TypeLogout, untyped: true, algorithms: b.Algorithms, issuer: issuer, audience: []string{audience}}
	return e, e.tokens.open(set)
}

const (
	// maxAge is the age up to which a logout token is valid.
	maxAge = 5 * time.Minute
	// validity is how long a logout token can be valid here.
	validity = maxAge + 2*leeway
	// maxUsed is how many used tokens are remembered.
	maxUsed = 100_000
)

// logout is the endpoint of Backchannel. It accepts each logout token once.
type logout struct {
	endpoint
	endsUser bool // a token with a sid ends all sessions of its sub

	mu   sync.Mutex
	used map[string]time.Time // when each jti was used
}

// Serve implements Endpoint. The answer is 200 also if there is no such user here.
func (e *logout) Serve(w http.ResponseWriter, r *http.Request, acquire Acquire) Result {
	return answer(w, r, http.StatusOK, refuse, func() (Result, *failure) { return e.accept(w, r, acquire) })
}

// accept ends the sessions that a request names.
func (e *logout) accept(w http.ResponseWriter, r *http.Request, acquire Acquire) (Result, *failure) {
	body, err := readBody(w, r, e.bodyTimeout)
	if err != nil {
		return Result{}, invalid(err.Error())
	}
	text, failed := logoutToken(r.Header, body)
	if failed != nil {
		return Result{}, failed
	}
	now := e.now()
	t, failed := e.read(text, now)
	if failed != nil {
		return Result{}, failed
	}
	if e.wasUsed(t.id, now) {
		return Result{}, invalid("the logout token was used before")
	}
	to, release := acquire()
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), applyTimeout)
	defer cancel()
	all, err := e.revocations(ctx, t, to.Users)
	switch {
	case errors.Is(err, identities.ErrNotAllowed):
		return Result{}, &failure{http.StatusBadRequest, "invalid_request", "sub names no user here: sid is required", err}
	case err != nil:
		return Result{}, unavailable(err)
	}
	for _, one := range all {
		if err := to.Sessions.Revoke(r.Context(), one); err != nil {
			return Result{}, unavailable(err)
		}
	}
	e.markUsed(t.id, now) // only now: the provider may repeat what failed
	return Result{Revoked: all, NotFound: len(all) == 0}, nil
}

// revocations returns what ends the sessions that a token names; none if it names a user
// who is not known.
func (e *logout) revocations(ctx context.Context, t logoutClaims, users identities.Users) ([]revocation.Revocation, error) {
	if t.sid != "" {
		return []revocation.Revocation{{Session: t.sid, At: t.endedUpTo}}, nil
	}
	subjects, err := e.accounts.Find(ctx, users, t.sub)
	var all []revocation.Revocation
	for _, subject := range subjects {
		all = append(all, revocation.Revocation{Subject: subject, At: t.endedUpTo})
	}
	return all, err
}

// wasUsed reports whether a token was used while it was valid.
func (e *logout) wasUsed(id string, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, used := e.used[id]
	return used && now.Sub(at) <= validity
}

func (e *logout) markUsed(id string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.used) >= maxUsed {
		for other, at := range e.used {
			if now.Sub(at) > validity {
				delete(e.used, other)
			}
		}
	}
	if len(e.used) < maxUsed { // else the token can be used again, which ends the same sessions
		e.used[id] = now
	}
}

// logoutEvent is the member that the claim events must have (section 2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutClaims are what counts of a valid logout token.
type logoutClaims struct {
	id        string    // its jti
	sub, sid  string    // what it ends: all sessions of a sub, if sid is empty
	endedUpTo time.Time // sessions of the sub that began later go on
}

// logoutToken returns the logout token of a request (section 2.5).
func logoutToken(header http.Header, body []byte) (string, *failure) {
	if media, _, err := mime.ParseMediaType(header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return "", invalid("the Content-Type is not application/x-www-form-urlencoded")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || len(form["logout_token"]) != 1 {
		return "", invalid("the form must have one logout_token")
	}
	return form.Get("logout_token"), nil
}

// read validates a logout token (section 2.6).
func (e *logout) read(token string, now time.Time) (logoutClaims, *failure) {
	claims, err := e.tokens.verify(token)
	switch {
	case errors.Is(err, jose.ErrKeysUnavailable):
		return logoutClaims{}, unavailable(err)
	case err != nil:
		return logoutClaims{}, invalid(err.Error())
	}
	issued, hasIssued := numericDate(claims["iat"])
	expires, hasExpires := numericDate(claims["exp"])
	events, _ := claims["events"].(map[string]any)
	_, isLogout := events[logoutEvent].(map[string]any)
	_, hasNonce := claims["nonce"]
	_, sidIsText := claims["sid"].(string)
	t := logoutClaims{id: text(claims, "jti"), sub: text(claims, "sub"), sid: text(claims, "sid"), endedUpTo: now}
	switch {
	case !hasIssued || issued.After(now.Add(leeway)) || now.Sub(issued) > maxAge+leeway:
		return t, invalid("iat is missing, in the future or too old")
	case !hasExpires || expires.Before(now.Add(-leeway)):
		return t, invalid("exp is missing or in the past")
	case t.id == "" || len(t.id) > revocation.MaxID:
		return t, invalid("jti is missing or too long")
	case !isLogout:
		return t, invalid("events has no back-channel logout event")
	case hasNonce:
		return t, invalid("nonce is not allowed")
	case claims["sid"] != nil && !sidIsText: // not all sessions instead of one
		return t, invalid("sid is no text")
	case t.sub == "" && (t.sid == "" || e.endsUser):
		return t, invalid("sub is missing")
	case len(t.sub) > revocation.MaxID || len(t.sid) > revocation.MaxID || strings.ContainsRune(t.sub+t.sid, 0):
		return t, invalid("sub or sid is too long, or has a NUL byte")
	}
	if e.endsUser {
		t.sid = ""
	}
	// Whoever has signed in since the provider ended the sessions stays signed in. If
	// sessions only say when they were renewed, one that was ended may have been since.
	if e.lasting && issued.Before(now) {
		t.endedUpTo = issued
	}
	return t, nil
}

// Interface guards
var (
	_ Options  = (*Backchannel)(nil)
	_ Endpoint = (*logout)(nil)
)
