package signals

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

type object = map[string]any

// shared returns the options of a usual receiver.
func (p *provider) shared() SharedSignals {
	return SharedSignals{
		Source:   Source{Path: "/events", Issuer: issuer, JWKS: p.file, Accounts: identities.Accounts{Provider: []string{"keycloak"}}},
		Audience: []string{"https://app.example", "app"}, EmailDomains: identities.Domains{"example.com"},
	}
}

func receive(t testing.TB, s SharedSignals, lasting bool) *receiver {
	t.Helper()
	e, err := Open(&s, environment.New(), Defaults{AuthPath: "/api/auth", IssuedAt: lasting}, keys{})
	if err != nil {
		t.Fatal(err)
	}
	r := e.(*receiver)
	r.now = func() time.Time { return now }
	return r
}

// push has an endpoint serve a SET.
func push(e Endpoint, s *site, set string, change ...func(*http.Request)) (*httptest.ResponseRecorder, Result) {
	r := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(set))
	r.Header.Set("Content-Type", "application/secevent+jwt")
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	return w, e.Serve(w, r, s.acquire)
}

var (
	ada     = object{"format": "iss_sub", "iss": issuer, "sub": "s-ada"}
	session = object{"format": "opaque", "id": "s1"}
)

// event returns the claims of a SET about a subject.
func event(uri string, subject, members object) object {
	all := object{"event_timestamp": now.Add(-time.Minute).Unix(), "a member that nobody knows": 1}
	maps.Copy(all, members)
	return object{
		"iss": issuer, "aud": "app", "jti": "j1", "iat": now.Add(-time.Minute).Unix(), "txn": "t", "unknown": object{},
		"sub_id": subject, "events": object{uri: all},
	}
}

// with returns claims with others; nil takes one away.
func with(claims object, name string, value any) object {
	claims = maps.Clone(claims)
	if claims[name] = value; value == nil {
		delete(claims, name)
	}
	return claims
}

// TestEvents is the table of docs/signals.md: what each event does.
func TestEvents(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	member := func(members object) object { return with(members, "format", "complex") }
	password := object{"credential_type": "password", "change_type": "update"}
	email := object{"format": "email", "email": "Ada@Example.com"}
	for name, c := range map[string]struct {
		uri              string
		subject, members object
		change           func(*SharedSignals)
		ends             string
		ignored          bool
	}{
		"session-revoked, a session":                 {uri: caep + "session-revoked", subject: member(object{"user": ada, "session": session}), ends: "session s1"},
		"session-revoked, a user":                    {uri: caep + "session-revoked", subject: ada, ends: "user ada"},
		"session-revoked, a user by address":         {uri: caep + "session-revoked", subject: email, ends: "user ada"},
		"session-revoked, a user by the issuer's id": {uri: caep + "session-revoked", subject: object{"format": "opaque", "id": "s-ada"}, ends: "user ada"},
		"session-revoked, the app's own id":          {uri: caep + "session-revoked", subject: object{"format": "opaque", "id": "ada"}, ignored: true},
		"session-revoked, aliases of a user":         {uri: caep + "session-revoked", subject: object{"format": "aliases", "identifiers": []any{ada, email, object{"format": "phone_number", "phone_number": "+1"}}}, ends: "user ada"},
		"session-revoked, a user of a tenant":        {uri: caep + "session-revoked", subject: member(object{"user": ada, "tenant": object{"format": "opaque", "id": "shop"}}), ends: "user ada"},
		"session-revoked, in this application":       {uri: caep + "session-revoked", subject: member(object{"user": ada, "application": object{"format": "opaque", "id": "app"}}), ends: "user ada"},
		"session-revoked, in another application":    {uri: caep + "session-revoked", subject: member(object{"user": ada, "application": object{"format": "opaque", "id": "other"}}), ignored: true},
		"session-revoked, a device of a user":        {uri: caep + "session-revoked", subject: member(object{"user": ada, "device": session}), ignored: true},
		"session-revoked, a group":                   {uri: caep + "session-revoked", subject: member(object{"user": ada, "group": session}), ignored: true},
		"session-revoked, a session of no kind":      {uri: caep + "session-revoked", subject: member(object{"user": ada, "session": object{"format": "did", "url": "x"}}), ignored: true},
		"session-revoked, nobody here":               {uri: caep + "session-revoked", subject: object{"format": "iss_sub", "iss": issuer, "sub": "s-eve"}, ignored: true},
		"session-revoked, a phone number":            {uri: caep + "session-revoked", subject: object{"format": "phone_number", "phone_number": "+1"}, ignored: true},
		"sessions-revoked":                           {uri: risc + "sessions-revoked", subject: ada, ends: "user ada"},
		"account-disabled":                           {uri: risc + "account-disabled", subject: ada, members: object{"reason": "hijacking"}, ends: "blocked ada, user ada"},
		"account-disabled, of a session":             {uri: risc + "account-disabled", subject: member(object{"user": ada, "session": session}), ignored: true},
		"account-enabled":                            {uri: risc + "account-enabled", subject: ada},
		"account-purged":                             {uri: risc + "account-purged", subject: ada, ends: "blocked ada, user ada"},
		"credential-compromise":                      {uri: risc + "credential-compromise", subject: ada, members: object{"credential_type": "password"}, ends: "user ada"},
		"account-credential-change-required":         {uri: risc + "account-credential-change-required", subject: ada, ends: "user ada"},
		"identifier-recycled":                        {uri: risc + "identifier-recycled", subject: email, ends: "user ada"},
		"identifier-recycled, no address":            {uri: risc + "identifier-recycled", subject: ada, ignored: true},
		"identifier-changed":                         {uri: risc + "identifier-changed", subject: email, members: object{"new-value": "x@example.com"}, ignored: true},
		"credential-change":                          {uri: caep + "credential-change", subject: ada, members: password, ignored: true},
		"credential-change, if it ends sessions":     {uri: caep + "credential-change", subject: ada, members: password, change: func(s *SharedSignals) { s.PasswordChange = "end" }, ends: "user ada"},
		"credential-change, a new passkey":           {uri: caep + "credential-change", subject: ada, members: object{"credential_type": "fido2-platform", "change_type": "create"}, change: func(s *SharedSignals) { s.PasswordChange = "end" }, ignored: true},
		"tokens-revoked":                             {uri: oauth + "tokens-revoked", subject: ada, ends: "user ada"},
		"token-revoked":                              {uri: oauth + "token-revoked", subject: ada, ignored: true},
		"device-compliance-change":                   {uri: caep + "device-compliance-change", subject: session, members: object{"previous_status": "compliant", "current_status": "not-compliant"}, ignored: true},
		"an event that nobody knows":                 {uri: "https://example.com/event", subject: object{"format": "x"}, ignored: true},
		"verification":                               {uri: ssf + "verification", subject: object{"format": "opaque", "id": "stream"}, members: object{"state": "x"}, ignored: true},
		"verification, unsolicited":                  {uri: ssf + "verification", subject: object{"format": "opaque", "id": "stream"}, ignored: true},
		"stream-updated":                             {uri: ssf + "stream-updated", subject: object{"format": "opaque", "id": "stream"}, members: object{"status": "paused"}, ignored: true},
		"Keycloak, all sessions":                     {uri: caep + "session-revoked", subject: member(object{"user": ada, "session": object{"format": "opaque", "id": "ALL"}}), change: func(s *SharedSignals) { s.Transmitter = "keycloak" }, ends: "user ada"},
		"another transmitter, a session called ALL":  {uri: caep + "session-revoked", subject: member(object{"user": ada, "session": object{"format": "opaque", "id": "ALL"}}), ends: "session ALL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := p.shared()
			if c.change != nil {
				c.change(&options)
			}
			e, s := receive(t, options, true), newSite(t)
			for range 2 { // delivered again, it gets the same answer
				w, result := push(e, s, p.sign(t, "secevent+jwt", event(c.uri, c.subject, c.members)))
				if w.Code != http.StatusAccepted || w.Body.Len() > 0 || s.ended() != c.ends || (result.Ignored != "") != c.ignored {
					t.Errorf("status %d %s, ended %q, want %q; ignored: %s", w.Code, w.Body, s.ended(), c.ends, result.Ignored)
				}
				if w.Header().Get("Cache-Control") != "no-store" {
					t.Error("the answer may be cached")
				}
			}
		})
	}
}

// TestInvalidSETs are refused, and end nothing.
func TestInvalidSETs(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	valid := event(caep+"session-revoked", ada, nil)
	const typ = "secevent+jwt"
	set := func(name string, value any) string { return p.sign(t, typ, with(valid, name, value)) }
	good := p.sign(t, typ, valid)
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims(valid)).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(uri string, members object) string { return p.sign(t, typ, event(uri, ada, members)) }
	idToken := object{"iss": issuer, "aud": "app", "sub": "s-ada", "jti": "j", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	logout := with(with(idToken, "events", object{"http://schemas.openid.net/event/backchannel-logout": object{}}), "sub_id", ada)
	for name, c := range map[string]struct{ set, err string }{
		"with a bad signature":                 {good[:len(good)-8] + "AAAAAAAA", errInvalidKey},
		"by a key that is not in the set":      {sign(t, jwt.SigningMethodRS256, p.other, "x", typ, valid), errInvalidKey},
		"by another key with the id of one":    {sign(t, jwt.SigningMethodRS256, p.other, "r", typ, valid), errInvalidKey},
		"by another algorithm of the set":      {sign(t, jwt.SigningMethodES256, p.ec, "e", typ, valid), errInvalidKey},
		"with a secret":                        {sign(t, jwt.SigningMethodHS256, []byte("r"), "r", typ, valid), errInvalidKey},
		"not signed":                           {unsigned, errInvalidRequest},
		"of another issuer":                    {set("iss", issuer+"/"), errInvalidIssuer},
		"without iss":                          {set("iss", nil), errInvalidIssuer},
		"for another app":                      {set("aud", []any{"other"}), errInvalidAud},
		"without aud":                          {set("aud", nil), errInvalidAud},
		"without iat":                          {set("iat", nil), errInvalidRequest},
		"of an hour ahead":                     {set("iat", now.Add(time.Hour).Unix()), errInvalidRequest},
		"without jti":                          {set("jti", nil), errInvalidRequest},
		"without events":                       {set("events", nil), errInvalidRequest},
		"with two events":                      {set("events", object{caep + "session-revoked": object{}, risc + "account-disabled": object{}}), errInvalidRequest},
		"whose event is no object":             {set("events", object{caep + "session-revoked": true}), errInvalidRequest},
		"without a subject":                    {set("sub_id", nil), errInvalidRequest},
		"with the subject in the event":        {p.sign(t, typ, with(event(caep+"session-revoked", nil, object{"subject": ada}), "sub_id", nil)), errInvalidRequest},
		"whose subject has no format":          {set("sub_id", with(ada, "format", nil)), errInvalidRequest},
		"whose subject has no sub":             {set("sub_id", with(ada, "sub", nil)), errInvalidRequest},
		"whose subject is huge":                {set("sub_id", with(ada, "sub", strings.Repeat("x", 2000))), errInvalidRequest},
		"with nested aliases":                  {set("sub_id", object{"format": "aliases", "identifiers": []any{object{"format": "aliases"}}}), errInvalidRequest},
		"with too many aliases":                {set("sub_id", object{"format": "aliases", "identifiers": slicesOf(ada, maxAliases+1)}), errInvalidRequest},
		"about another issuer's account":       {set("sub_id", with(ada, "iss", "https://other.example")), errAccessDenied},
		"about an account there, in an alias":  {set("sub_id", object{"format": "aliases", "identifiers": []any{ada, with(ada, "iss", "https://other.example")}}), errAccessDenied},
		"about an account there, in a session": {set("sub_id", object{"format": "complex", "user": with(ada, "iss", "https://other.example"), "session": session}), errAccessDenied},
		"about an address of another domain":   {set("sub_id", object{"format": "email", "email": "bob@other.example"}), errAccessDenied},
		"with exp":                             {set("exp", now.Add(time.Hour).Unix()), errInvalidRequest},
		"with sub":                             {set("sub", "s-ada"), errInvalidRequest},
		"with a nonce":                         {set("nonce", "n"), errInvalidRequest},
		"that is an ID token":                  {p.sign(t, "JWT", idToken), errInvalidRequest},
		"that is an access token":              {p.sign(t, "at+jwt", idToken), errInvalidKey},
		"that is a logout token":               {p.sign(t, "logout+jwt", logout), errInvalidKey},
		"of no type":                           {p.sign(t, "", valid), errInvalidRequest},
		"of the type JWT":                      {p.sign(t, "JWT", valid), errInvalidRequest},
		"whose time is none":                   {changed(caep+"session-revoked", object{"event_timestamp": "now"}), errInvalidRequest},
		"whose time is before 1970":            {changed(risc+"account-disabled", object{"event_timestamp": -1}), errInvalidRequest},
		"whose time rounds to none":            {changed(risc+"account-enabled", object{"event_timestamp": 1e-9}), errInvalidRequest},
		"a credential-change without a type":   {changed(caep+"credential-change", object{"change_type": "update"}), errInvalidRequest},
		"a credential-compromise without one":  {changed(risc+"credential-compromise", nil), errInvalidRequest},
		"a stream-updated without a status":    {changed(ssf+"stream-updated", nil), errInvalidRequest},
		"a verification whose state is none":   {changed(ssf+"verification", object{"state": 1}), errInvalidRequest},
		"that is none":                         {"a.b.c", errInvalidKey},
		"that is empty":                        {"", errInvalidRequest},
		"that is two":                          {good + "." + good, errInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, s := receive(t, p.shared(), true), newSite(t)
			w, result := push(e, s, c.set)
			var answer struct{ Err, Description string }
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Errorf("status %d: %s is no JSON", w.Code, w.Body)
			}
			if w.Code != http.StatusBadRequest || answer.Err != c.err || answer.Description == "" || s.ended() != "" || !result.Refused {
				t.Errorf("status %d %s, want %s; ended %q, %v", w.Code, w.Body, c.err, s.ended(), result.Err)
			}
			if w.Header().Get("Content-Language") != "en" || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("header %v", w.Header())
			}
		})
	}
}

func slicesOf(one any, n int) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = one
	}
	return all
}

func TestRequestsThatHoldNoSET(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	set := p.sign(t, "application/SecEvent+JWT", event(caep+"session-revoked", ada, nil))
	const header = "Bearer 0123456789abcdef0123456789abcdef"
	options := p.shared()
	options.Authorization = header
	authorized := func(r *http.Request) { r.Header.Set("Authorization", header) }
	unread := func(r *http.Request) { r.Body = http.NoBody }
	for name, c := range map[string]struct {
		set    string
		change []func(*http.Request)
		want   int
		says   string
	}{
		"right":                    {set, []func(*http.Request){authorized}, http.StatusAccepted, ""},
		"a GET":                    {set, []func(*http.Request){authorized, func(r *http.Request) { r.Method = http.MethodGet }}, http.StatusMethodNotAllowed, ""},
		"another type of content":  {set, []func(*http.Request){authorized, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }}, http.StatusUnsupportedMediaType, ""},
		"too long":                 {set + strings.Repeat(" ", maxBody), []func(*http.Request){authorized}, http.StatusRequestEntityTooLarge, ""},
		"without an authorization": {set, []func(*http.Request){unread}, http.StatusBadRequest, errAuthentication},
		"with another":             {set, []func(*http.Request){func(r *http.Request) { r.Header.Set("Authorization", header+"0") }}, http.StatusBadRequest, errAuthentication},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			w, _ := push(receive(t, options, true), s, c.set, c.change...)
			if w.Code != c.want || !strings.Contains(w.Body.String(), c.says) || (s.ended() != "") != (c.want == http.StatusAccepted) {
				t.Errorf("status %d %s, ended %q", w.Code, w.Body, s.ended())
			}
		})
	}
}

// TestUpToWhenAnEventEndsSessions has transmitters whose clock or unit is wrong: nobody is
// locked out by a time in the future.
func TestUpToWhenAnEventEndsSessions(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		event, toe any
		issued     time.Time
		lasting    bool
		want       time.Time
	}{
		"the time of the event":                 {ago(time.Hour).Unix(), nil, ago(time.Minute), true, ago(time.Hour)},
		"toe":                                   {nil, ago(2 * time.Hour).Unix(), ago(time.Minute), true, ago(2 * time.Hour)},
		"iat":                                   {nil, nil, ago(time.Minute), true, ago(time.Minute)},
		"milliseconds":                          {ago(time.Hour).UnixMilli(), nil, ago(time.Minute), true, ago(time.Minute)},
		"an event after its token":              {now.Add(time.Hour).Unix(), nil, ago(time.Minute), true, ago(time.Minute)},
		"a clock that is ahead":                 {nil, nil, now.Add(time.Minute / 2), true, now},
		"sessions that only say their renewal":  {ago(time.Hour).Unix(), nil, ago(time.Minute), false, now},
		"their renewal, a clock that is ahead":  {nil, nil, now.Add(time.Minute / 2), false, now},
		"their renewal, weeks late":             {ago(720 * time.Hour).Unix(), nil, ago(720 * time.Hour), false, ago((720 - 168) * time.Hour)},
		"an event that was delivered days late": {ago(72 * time.Hour).Unix(), nil, ago(72 * time.Hour), true, ago(72 * time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, s := receive(t, p.shared(), c.lasting), newSite(t)
			claims := with(with(event(caep+"session-revoked", ada, nil), "iat", c.issued.Unix()), "toe", c.toe)
			claims["events"].(object)[caep+"session-revoked"].(object)["event_timestamp"] = c.event
			w, _ := push(e, s, p.sign(t, "secevent+jwt", claims))
			if at, found := s.sessions.Find([]byte("ada")); w.Code != http.StatusAccepted || !found || !at.Equal(c.want) {
				t.Errorf("status %d %s, ended up to %s, want %s", w.Code, w.Body, at, c.want)
			}
		})
	}
}

// TestTheOrderOfEventsIsThatOfTheirTimes delivers events in another order.
func TestTheOrderOfEventsIsThatOfTheirTimes(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	at := func(id, name string, minutes int) object {
		return with(event(risc+name, ada, object{"event_timestamp": now.Add(time.Duration(minutes-60) * time.Minute).Unix()}), "jti", id)
	}
	for name, c := range map[string]struct {
		all     []object
		blocked bool
	}{
		"disabled, enabled":                    {[]object{at("1", "account-disabled", 1), at("2", "account-enabled", 2)}, false},
		"enabled, delivered first":             {[]object{at("2", "account-enabled", 2), at("1", "account-disabled", 1)}, false},
		"disabled, enabled, the first again":   {[]object{at("1", "account-disabled", 1), at("2", "account-enabled", 2), at("1", "account-disabled", 1)}, false},
		"disabled, enabled, disabled":          {[]object{at("1", "account-disabled", 1), at("2", "account-enabled", 2), at("3", "account-disabled", 3)}, true},
		"enabled and disabled at once":         {[]object{at("2", "account-enabled", 1), at("1", "account-disabled", 1)}, true},
		"disabled and enabled at once":         {[]object{at("1", "account-disabled", 1), at("2", "account-enabled", 1)}, true},
		"purged, then enabled as it was later": {[]object{at("1", "account-purged", 1), at("2", "account-enabled", 2)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, s := receive(t, p.shared(), true), newSite(t)
			for _, claims := range c.all {
				for _, at := range []any{claims["events"].(object)} {
					for _, members := range at.(object) {
						claims["iat"] = members.(object)["event_timestamp"]
					}
				}
				if w, _ := push(e, s, p.sign(t, "secevent+jwt", claims)); w.Code != http.StatusAccepted {
					t.Fatalf("status %d %s", w.Code, w.Body)
				}
			}
			if s.sessions.Blocks([]byte("ada")) != c.blocked {
				t.Errorf("blocked: %v", !c.blocked)
			}
			if _, ended := s.sessions.Find([]byte("ada")); !ended {
				t.Error("sessions that ended are back")
			}
		})
	}
}

// TestAnIssuerLiftsNoBlockOfAnother has a user disabled at one of two issuers.
func TestAnIssuerLiftsNoBlockOfAnother(t *testing.T) {
	t.Parallel()
	p, s := newProvider(t), newSite(t)
	const second = "https://second.example"
	both := p.shared()
	both.Issuer = second
	first, other := receive(t, p.shared(), true), receive(t, both, true)
	enabled := event(risc+"account-enabled", with(ada, "iss", second), object{"event_timestamp": now.Unix()})
	enabled["iss"], enabled["iat"] = second, now.Unix()
	push(first, s, p.sign(t, "secevent+jwt", event(risc+"account-disabled", ada, nil)))
	if w, _ := push(other, s, p.sign(t, "secevent+jwt", enabled)); w.Code != http.StatusAccepted || !s.sessions.Blocks([]byte("ada")) {
		t.Errorf("status %d %s; the other issuer has lifted the block", w.Code, w.Body)
	}
	if err := s.sessions.Restore(t.Context(), "ada", now); err != nil || s.sessions.Blocks([]byte("ada")) {
		t.Errorf("an operator cannot lift it: %v", err)
	}
}

// TestASETThatComesAgainEndsNothingAgain delivers a SET when its user has signed in again.
func TestASETThatComesAgainEndsNothingAgain(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	e, s := receive(t, p.shared(), false), newSite(t)
	set := p.sign(t, "secevent+jwt", event(caep+"session-revoked", ada, nil))
	push(e, s, set)
	first, _ := s.sessions.Find([]byte("ada"))
	e.now = func() time.Time { return now.Add(time.Hour) }
	w, result := push(e, s, set)
	if again, _ := s.sessions.Find([]byte("ada")); w.Code != http.StatusAccepted || !result.Again || !again.Equal(first) {
		t.Errorf("status %d, ended up to %s, first %s", w.Code, again, first)
	}
	other := p.sign(t, "secevent+jwt", with(event(caep+"session-revoked", ada, nil), "jti", "j2"))
	push(e, s, other)
	if later, _ := s.sessions.Find([]byte("ada")); !later.After(first) {
		t.Error("another event ends nothing")
	}
}

// TestWhatCannotBeAppliedIsSentAgain answers 503: a failed look-up is not "nobody".
func TestWhatCannotBeAppliedIsSentAgain(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	set := p.sign(t, "secevent+jwt", event(caep+"session-revoked", ada, nil))
	for name, broken := range map[string]func(*site){
		"the database is down": func(s *site) { s.users = nil },
		"the store is full":    func(s *site) { s.files.full.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, s := receive(t, p.shared(), true), newSite(t)
			broken(s)
			for range 2 {
				if w, result := push(e, s, set); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || result.Refused || result.Err == nil {
					t.Errorf("status %d %s", w.Code, w.Body)
				}
			}
			s.users = everybody
			s.files.full.Store(false)
			if w, _ := push(e, s, set); w.Code != http.StatusAccepted || s.ended() != "user ada" {
				t.Errorf("afterwards: status %d %s, ended %q", w.Code, w.Body, s.ended())
			}
		})
	}
	options := p.shared()
	options.Issuer, options.JWKS = "http://127.0.0.1:1", ""
	if w, _ := push(receive(t, options, true), newSite(t), set); w.Code != http.StatusServiceUnavailable {
		t.Errorf("the keys are not known: status %d %s", w.Code, w.Body)
	}
}

// TestANewKeyOfTheTransmitterLosesNoEvent signs with a key that was not there when the set
// was fetched: what is answered with 400 is not sent again.
func TestANewKeyOfTheTransmitterLosesNoEvent(t *testing.T) {
	t.Parallel()
	p, next := newProvider(t), newProvider(t)
	file, old := atomic.Pointer[string]{}, p.file
	file.Store(&old)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, *file.Load()) }))
	t.Cleanup(server.Close)
	options := p.shared()
	options.JWKS = server.URL
	e, s := receive(t, options, true), newSite(t)
	claims := event(caep+"session-revoked", ada, nil)
	eventually.Holds(t, "the keys are known", func() bool {
		w, _ := push(e, s, p.sign(t, "secevent+jwt", with(claims, "jti", "j0")))
		return w.Code == http.StatusAccepted
	})
	renamed, err := os.ReadFile(next.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(next.file, []byte(strings.Replace(string(renamed), `"kid":"r"`, `"kid":"new"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	file.Store(&next.file)
	set := sign(t, jwt.SigningMethodRS256, next.rsa, "new", "secevent+jwt", claims)
	eventually.Holds(t, "the event is accepted", func() bool {
		w, _ := push(e, s, set)
		if w.Code != http.StatusAccepted && w.Code != http.StatusServiceUnavailable {
			t.Fatalf("status %d %s", w.Code, w.Body)
		}
		return w.Code == http.StatusAccepted
	})
	if w, _ := push(e, s, sign(t, jwt.SigningMethodRS256, next.rsa, "nobody's", "secevent+jwt", claims)); w.Code != http.StatusBadRequest {
		t.Errorf("a key that the set does not have: status %d", w.Code)
	}
}

// TestTransmittersThatDeviate are understood if they are named, and else refused.
func TestTransmittersThatDeviate(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	claims := func(uri string, event object) object {
		return object{"iss": issuer, "aud": []any{"app"}, "jti": "j1", "iat": now.Unix(), "events": object{uri: event}}
	}
	old := object{"subject_type": "iss-sub", "iss": issuer, "sub": "s-ada"}
	for name, c := range map[string]struct {
		transmitter, typ string
		claims           object
		ends             string
	}{
		"authentik":                         {"authentik", "JWT", claims(caep+"session-revoked", object{"subject": object{"session": object{"format": "opaque", "id": "5e55"}, "user": object{"format": "email", "email": "ada@example.com"}}}), "session 5e55"},
		"Okta":                              {"okta", "secevent+jwt", claims(caep+"session-revoked", object{"subject": ada}), "user ada"},
		"Google":                            {"google", "JWT", with(claims(risc+"account-disabled", object{"subject": old, "reason": "hijacking"}), "exp", now.Add(-time.Hour).Unix()), "blocked ada, user ada"},
		"Google, the claims of an ID token": {"google", "", claims(risc+"sessions-revoked", object{"subject": object{"subject_type": "id_token_claims", "iss": issuer, "sub": "s-ada", "email": "bob@other.example"}}), "user ada"},
		"Google, a token":                   {"google", "", claims(oauth+"token-revoked", object{"subject": object{"subject_type": "oauth_token", "token": "x"}}), ""},
		"Google, another issuer's account":  {"google", "", claims(risc+"sessions-revoked", object{"subject": with(old, "iss", "https://other.example")}), ""},
		"Google, a verification":            {"google", "", claims(risc+"verification", object{"state": "x"}), ""},
		"Google, an ID token":               {"google", "JWT", object{"iss": issuer, "aud": "app", "sub": "s-ada", "jti": "j", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}, ""},
		"Google, a logout token":            {"google", "JWT", with(claims("http://schemas.openid.net/event/backchannel-logout", object{}), "sub", "s-ada"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, transmitter := range []string{c.transmitter, ""} {
				options, s := p.shared(), newSite(t)
				options.Transmitter = transmitter
				want := c.ends
				if transmitter == "" {
					want = ""
				}
				if w, _ := push(receive(t, options, true), s, p.sign(t, c.typ, c.claims)); s.ended() != want {
					t.Errorf("as %q: status %d %s, ended %q, want %q", transmitter, w.Code, w.Body, s.ended(), want)
				}
			}
		})
	}
}

// TestTheKeySetIsDiscovered from the metadata of the issuer, and of no other.
func TestTheKeySetIsDiscovered(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	named := ""
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/ssf-configuration/realms/shop", "/.well-known/ssf-configuration/other":
			_ = json.NewEncoder(w).Encode(object{"issuer": named, "jwks_uri": server.URL + "/keys"})
		case "/keys":
			http.ServeFile(w, r, p.file)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	named = server.URL + "/realms/shop"
	options := p.shared()
	options.Issuer, options.JWKS = named, ""
	e, s := receive(t, options, true), newSite(t)
	set := p.sign(t, "secevent+jwt", with(event(caep+"session-revoked", with(ada, "iss", named), nil), "iss", named))
	eventually.Holds(t, "the keys are known", func() bool {
		w, _ := push(e, s, set)
		return w.Code == http.StatusAccepted
	})
	failures := make(chan error, 8)
	other, err := jose.DiscoverJWKS(server.URL+"/.well-known/ssf-configuration/other", server.URL+"/other", func(err error) { failures <- err })
	if err != nil {
		t.Fatal(err)
	}
	if err := <-failures; !strings.Contains(err.Error(), "of another issuer") {
		t.Error(err)
	}
	_ = other.Close()
}

func TestOptionsOfSharedSignals(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for says, change := range map[string]func(*SharedSignals){
		"issuer and audience are required":           func(s *SharedSignals) { s.Audience = nil },
		`path is "events"`:                           func(s *SharedSignals) { s.Path = "events" },
		"authorization must have at least 32":        func(s *SharedSignals) { s.Authorization = "Bearer short" },
		`transmitter is "auth0"`:                     func(s *SharedSignals) { s.Transmitter = "auth0" },
		`password_change is "log"`:                   func(s *SharedSignals) { s.PasswordChange = "log" },
		`algorithms has "HS256"`:                     func(s *SharedSignals) { s.Algorithms = []string{"HS256"} },
		"provider and sub_is_user_id exclude":        func(s *SharedSignals) { s.SubIsUserID = true },
		"the key set cannot be discovered":           func(s *SharedSignals) { s.JWKS, s.Issuer = "", "shop" },
		"audience: evaluated placeholder {env.NONE}": func(s *SharedSignals) { s.Audience = []string{"{env.NONE}"} },
	} {
		options := p.shared()
		change(&options)
		if _, err := Open(&options, environment.New(), Defaults{}, keys{}); err == nil || !strings.HasPrefix(err.Error(), "shared_signals: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
	options := p.shared()
	if _, err := Open(&options, environment.New(), Defaults{NoUsers: true}, keys{}); err == nil || !strings.Contains(err.Error(), identities.ErrUnsupported.Error()) {
		t.Errorf("where users cannot be found: %v", err)
	}
}

// FuzzSET reads claims that a transmitter has signed.
func FuzzSET(f *testing.F) {
	p := newProvider(f)
	for _, uri := range []string{caep + "session-revoked", risc + "account-disabled", ssf + "verification"} {
		text, err := json.Marshal(event(uri, object{"format": "complex", "user": ada, "session": session}, nil))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "keycloak")
		f.Add(strings.ReplaceAll(string(text), `"format"`, `"subject_type"`), "google")
	}
	receivers := make(map[string]*receiver)
	for transmitter := range tolerances {
		options := p.shared()
		options.Transmitter = transmitter
		receivers[transmitter] = receive(f, options, true)
	}
	f.Fuzz(func(t *testing.T, text, transmitter string) {
		e := receivers[transmitter]
		claims, err := jose.ParsePayload([]byte(text))
		if e == nil || err != nil {
			return
		}
		s, failed := e.parse(claims, now)
		if failed != nil {
			if failed.status != http.StatusBadRequest || failed.code == "" || failed.description == "" {
				t.Errorf("failure %+v", failed)
			}
			return
		}
		if s.at.After(now) || len(s.about.users) > maxAliases || s.id == "" {
			t.Errorf("%+v", s)
		}
		for _, id := range s.about.users {
			if id.value == "" || id.format == formatAccount && id.issuer != issuer {
				t.Errorf("about %+v", id)
			}
		}
	})
}
