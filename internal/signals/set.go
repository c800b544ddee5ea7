package signals

import (
	"errors"
	"net/http"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// The errors of RFC 8935, section 2.4, and OpenID Shared Signals Framework 1.0.
const (
	errInvalidRequest = "invalid_request"
	errInvalidKey     = "invalid_key"
	errInvalidIssuer  = "invalid_issuer"
	errInvalidAud     = "invalid_audience"
	errAuthentication = "authentication_failed"
	errAccessDenied   = "access_denied"
)

// set is a valid Security Event Token (RFC 8417) with one event.
type set struct {
	id     string // its jti
	action action
	issued time.Time // its iat
	at     time.Time // of the event, by the transmitter, but never in the future
	event  map[string]any
	uri    string
	about  subject // of events with one
	status string  // of a stream
}

// parse reads the claims of a token that is signed by the transmitter.
func (e *receiver) parse(claims map[string]any, now time.Time) (set, *failure) {
	s := set{id: text(claims, "jti")}
	issued, hasIssued := numericDate(claims["iat"])
	has := func(name string) bool { _, found := claims[name]; return found }
	switch {
	case s.id == "" || len(s.id) > revocation.MaxID:
		return s, invalid("jti is missing or too long")
	case !hasIssued || issued.After(now.Add(leeway)):
		return s, invalid("iat is missing or in the future")
	case has("nonce"), !e.tolerance.loose && (has("exp") || has("sub")): // a token for something else
		return s, invalid("nonce, exp and sub are not allowed")
	}
	events, _ := claims["events"].(map[string]any)
	for uri, event := range events {
		s.uri = uri
		s.event, _ = event.(map[string]any)
	}
	if len(events) != 1 || s.event == nil {
		return s, invalid("events must have one event, an object")
	}
	s.action, s.issued = actions[s.uri], issued
	var failed *failure
	if s.at, failed = happened(claims, s.event, issued, now); failed != nil {
		return s, failed
	}
	if failed = s.members(e.tolerance); failed != nil {
		return s, failed
	}
	if s.action == ignore || s.action == verify || s.action == updated {
		return s, nil
	}
	about, _ := claims["sub_id"].(map[string]any)
	if about == nil && e.tolerance.inEvent {
		about, _ = s.event["subject"].(map[string]any)
	}
	if about == nil {
		return s, invalid("sub_id is missing")
	}
	var err error
	if s.about, err = e.subject(about); err != nil {
		return s, invalid(err.Error())
	}
	for _, id := range s.about.users {
		if id.format == formatAccount && id.issuer != e.tokens.issuer {
			return s, &failure{status: http.StatusBadRequest, code: errAccessDenied, description: "the iss of the subject is another issuer"}
		}
	}
	return s, nil
}

// happened returns when an event happened: never after its token was made, or now. A
// transmitter that counts milliseconds would lock the user out for ever.
func happened(claims, event map[string]any, issued, now time.Time) (time.Time, *failure) {
	at := issued
	if now.Before(at) {
		at = now
	}
	for _, stamp := range []any{event["event_timestamp"], claims["toe"]} {
		if stamp == nil {
			continue
		}
		t, ok := numericDate(stamp)
		if !ok {
			return at, invalid("the time of the event is no time")
		}
		if t.Before(at) {
			at = t
		}
		break
	}
	return at, nil
}

// members checks the members of an event that it is applied by.
func (s *set) members(tolerance tolerance) *failure {
	var err error
	switch s.action {
	case verify:
		if _, isText := s.event["state"].(string); s.event["state"] != nil && !isText {
			err = errors.New("state is no text")
		}
	case updated:
		switch s.status = text(s.event, "status"); s.status {
		case "enabled", "paused", "disabled":
		default:
			err = errors.New("status must be one of enabled, paused, disabled")
		}
	case credential:
		if text(s.event, "credential_type") == "" || text(s.event, "change_type") == "" {
			err = errors.New("credential_type and change_type are required")
		}
	case endUser:
		if s.uri == risc+"credential-compromise" && text(s.event, "credential_type") == "" && !tolerance.loose {
			err = errors.New("credential_type is required")
		}
	}
	if err != nil {
		return invalid(err.Error())
	}
	return nil
}
