package signals

import (
	"cmp"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// SharedSignals receives the events of one transmitter that are pushed (OpenID Shared
// Signals Framework 1.0, RFC 8935): it ends sessions, refuses those of users who are
// disabled at the transmitter, and accepts all other events. The transmitter's operator
// creates the stream.
type SharedSignals struct {
	Source

	// What the `aud` claim must be or contain one of, as agreed on for the stream.
	// Default: the handler's Audience.
	Audience []string `json:"audience,omitempty"`

	// The Authorization header that the transmitter sends with each event, of at least
	// 32 characters: the stream's `authorization_header`. Anything else is refused
	// unread. Default: not checked, the signature of each event is.
	Authorization string `json:"authorization,omitempty"`

	// The domains of the email addresses by which the transmitter may name users.
	// Default: none.
	EmailDomains identities.Domains `json:"email_domains,omitempty"`

	// What a changed, revoked or deleted password does: `ignore`, or `end` the user's
	// sessions. Default: ignore.
	PasswordChange string `json:"password_change,omitempty"`

	// The transmitter, if it deviates from the specifications: `keycloak`, `authentik`,
	// `okta` or `google`. Default: none, as specified.
	Transmitter string `json:"transmitter,omitempty"`
}

// tolerance is what a transmitter does beside the specifications.
type tolerance struct {
	untyped     bool // typ is JWT, or missing
	loose       bool // exp or sub may be there, credential_type need not be
	inEvent     bool // the subject is in the event only
	oldFormats  bool // subject identifiers have a subject_type, or no format
	allSessions bool // a session "ALL" is all sessions
}

// tolerances are those of Keycloak 26.7, authentik 2025.2, the SDK of Okta and Google's
// documentation of RISC.
var tolerances = map[string]tolerance{
	"":          {},
	"keycloak":  {allSessions: true},
	"authentik": {untyped: true, inEvent: true, oldFormats: true},
	"okta":      {inEvent: true},
	"google":    {untyped: true, loose: true, inEvent: true, oldFormats: true},
}

// UnmarshalCaddyfile parses the block of `shared_signals`.
func (s *SharedSignals) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return s.unmarshal(d, s.kind(), directive.Options{
		"audience":        directive.Texts(&s.Audience),
		"authorization":   directive.Text(&s.Authorization),
		"email_domains":   directive.Texts((*[]string)(&s.EmailDomains)),
		"password_change": directive.Text(&s.PasswordChange),
		"transmitter":     directive.Text(&s.Transmitter),
	})
}

func (*SharedSignals) kind() Kind { return Shared }

func (s *SharedSignals) open(env environment.Environment, defaults Defaults, keys Keys) (Endpoint, error) {
	common, err := s.endpoint(s.kind(), s.EmailDomains, defaults)
	err = errors.Join(err, directive.OneOf("password_change", s.PasswordChange, "ignore", "end"),
		directive.OneOf("transmitter", s.Transmitter, "keycloak", "authentik", "okta", "google"))
	if err != nil {
		return nil, err
	}
	e := &receiver{endpoint: common, endsOnPassword: s.PasswordChange == "end", tolerance: tolerances[s.Transmitter]}
	if e.authorization, err = secret(env, "authorization", s.Authorization); err != nil {
		return nil, err
	}
	issuer, err := env.Fill("issuer", cmp.Or(s.Issuer, defaults.Issuer))
	if err != nil {
		return nil, err
	}
	names := s.Audience
	if len(names) == 0 && defaults.Audience != "" {
		names = []string{defaults.Audience}
	}
	audience, err := env.FillAll("audience", names)
	if err != nil {
		return nil, err
	}
	if issuer == "" || len(audience) == 0 {
		return nil, errors.New("issuer and audience are required")
	}
	set, err := s.keySet(env, issuer, keys)
	if err != nil {
		return nil, err
	}
	e.tokens = &tokens{typ: jose.TypeSecurityEvent, untyped: e.tolerance.untyped, algorithms: s.Algorithms, issuer: issuer, audience: audience}
	return e, e.tokens.open(set)
}

func (s *SharedSignals) keySet(env environment.Environment, issuer string, keys Keys) (*jose.JWKS, error) {
	location, err := env.Fill("jwks", s.JWKS)
	if err != nil {
		return nil, err
	}
	if location != "" {
		return keys.KeySet(location)
	}
	name := "ssf-configuration"
	if s.Transmitter == "google" {
		name = "risc-configuration"
	}
	return keys.DiscoverKeySet(metadataURL(issuer, name), issuer)
}

// metadataURL returns where the metadata of an issuer are: between its host and its path
// (OpenID Shared Signals Framework 1.0, section 7.2). It is empty if that is no URL.
func metadataURL(issuer, name string) string {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" {
		return ""
	}
	u.Path = "/.well-known/" + name + strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u.String()
}

// receiver is the endpoint of SharedSignals.
type receiver struct {
	endpoint
	authorization  string // empty if it is not checked
	endsOnPassword bool
	tolerance      tolerance
}

// Serve implements Endpoint.
func (e *receiver) Serve(w http.ResponseWriter, r *http.Request, acquire Acquire) Result {
	refuse := func(w http.ResponseWriter, failed *failure) {
		if failed.status != http.StatusBadRequest {
			http.Error(w, failed.description, failed.status)
			return
		}
		w.Header().Set("Content-Language", "en")
		writeJSON(w, failed.status, map[string]string{"err": failed.code, "description": failed.description})
	}
	return answer(w, r, http.StatusAccepted, refuse, func() (Result, *failure) { return e.accept(w, r, acquire) })
}

// accept applies the event of a request.
func (e *receiver) accept(w http.ResponseWriter, r *http.Request, acquire Acquire) (Result, *failure) {
	var none Result
	if e.authorization != "" && !same(r.Header.Get("Authorization"), e.authorization) {
		return none, &failure{status: http.StatusBadRequest, code: errAuthentication, description: "the Authorization header is not the one of the stream"}
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/"+jose.TypeSecurityEvent {
		return none, &failure{status: http.StatusUnsupportedMediaType, description: "the Content-Type is not application/secevent+jwt"}
	}
	body, err := readBody(w, r, e.bodyTimeout)
	switch {
	case errors.Is(err, errTooLong):
		return none, &failure{status: http.StatusRequestEntityTooLarge, description: err.Error()}
	case err != nil:
		return none, invalid(err.Error())
	}
	now := e.now()
	s, failed := e.read(strings.TrimSpace(string(body)), now)
	if failed != nil {
		return none, failed
	}
	if reason, attention := e.passes(&s); reason != "" {
		return Result{Ignored: reason, Attention: attention}, nil
	}
	to, release := acquire()
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), applyTimeout)
	defer cancel()
	all, failed := e.revocations(ctx, &s, to.Users, now)
	if failed != nil {
		return none, failed
	}
	if len(all) == 0 {
		return Result{Ignored: "it names nobody here", NotFound: true}, nil
	}
	again, err := to.Sessions.Apply(r.Context(), messageID("event", e.tokens.issuer, s.id), all)
	if err != nil {
		return none, unavailable(err)
	}
	return Result{Revoked: all, Again: again}, nil
}

// read verifies and parses a Security Event Token.
func (e *receiver) read(token string, now time.Time) (set, *failure) {
	if strings.Count(token, ".") != 2 {
		return set{}, invalid("the body is no Security Event Token")
	}
	claims, err := e.tokens.verify(token)
	code := errInvalidKey
	switch {
	case err == nil:
		return e.parse(claims, now)
	case errors.Is(err, jose.ErrKeysUnavailable):
		return set{}, unavailable(err)
	case errors.Is(err, errType):
		code = errInvalidRequest
	case errors.Is(err, errIssuer):
		code = errInvalidIssuer
	case errors.Is(err, errAudience):
		code = errInvalidAud
	}
	return set{}, &failure{status: http.StatusBadRequest, code: code, description: err.Error()}
}

// passes returns why an event changes nothing, and whether that needs attention; nothing
// if it does. A subject is never widened: an event about a device is none about its user.
func (e *receiver) passes(s *set) (reason string, attention bool) {
	name := s.uri[strings.LastIndexByte(s.uri, '/')+1:]
	switch {
	case s.action == ignore:
		return "an event of a kind that changes nothing", false
	case s.action == verify:
		return "the transmitter verifies the stream: it works", false
	case s.action == updated:
		return "the transmitter says that the stream is " + s.status, s.status != "enabled"
	case s.action == credential && !e.endsSessions(s.event):
		return "a changed credential, which ends no session", false
	case s.about.elsewhere:
		return name + " about another application", false
	case s.about.session != "" && s.action == end:
		return "", false
	case s.about.narrow || s.about.session != "":
		return name + " about less than a user, such as a device", true
	case len(s.about.users) == 0:
		return name + " about a subject of a format that is not supported", true
	}
	return "", false
}

// endsSessions reports whether a changed credential ends the user's sessions. Who adds a
// passkey stays signed in.
func (e *receiver) endsSessions(event map[string]any) bool {
	return e.endsOnPassword && text(event, "credential_type") == "password" && slices.Contains([]string{"update", "revoke", "delete"}, text(event, "change_type"))
}

// revocations returns what an event revokes, blocks or restores; nothing if the app has
// no such user.
func (e *receiver) revocations(ctx context.Context, s *set, users identities.Users, now time.Time) ([]revocation.Revocation, *failure) {
	// Sessions that only say when they were renewed may have been renewed since the event.
	// What is delivered again when it is forgotten ends no new ones.
	until := s.at
	if !e.lasting {
		if until = s.issued.Add(revocation.MessageLife); until.After(now) {
			until = now
		}
	}
	if s.action == end && s.about.session != "" {
		return []revocation.Revocation{{Session: s.about.session, At: until}}, nil
	}
	found, failed := e.find(ctx, s, users)
	if failed != nil {
		return nil, failed
	}
	var all []revocation.Revocation
	for _, user := range found {
		switch s.action {
		case block:
			all = append(all, revocation.Revocation{Subject: user, At: until}, revocation.Revocation{Subject: user, Blocked: true, By: e.tokens.issuer, At: s.at})
		case unblock:
			all = append(all, revocation.Revocation{Subject: user, Blocked: true, By: e.tokens.issuer, Restored: true, At: s.at})
		default:
			all = append(all, revocation.Revocation{Subject: user, At: until})
		}
	}
	return all, nil
}

// find returns the users that an event is about. The transmitter speaks for its own
// accounts only: an opaque id is one of these, never the app's.
func (e *receiver) find(ctx context.Context, s *set, users identities.Users) (found []string, failed *failure) {
	var denied error
	for _, id := range s.about.users {
		var all []string
		var err error
		switch {
		case id.format == formatEmail:
			all, err = e.domains.Find(ctx, users, id.value)
		case s.action == endAddress: // the account has another address now
			continue
		default:
			all, err = e.accounts.Find(ctx, users, id.value)
		}
		switch {
		case errors.Is(err, identities.ErrNotAllowed):
			denied = err
		case err != nil:
			return nil, unavailable(err)
		}
		found = append(found, all...)
	}
	if len(found) == 0 && denied != nil {
		return nil, &failure{http.StatusBadRequest, errAccessDenied, "the transmitter may not name users this way", denied}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// Interface guards
var (
	_ Options  = (*SharedSignals)(nil)
	_ Endpoint = (*receiver)(nil)
)
