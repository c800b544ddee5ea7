package logout

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/signals"
)

const (
	// leeway is how far the clocks of the provider and of this server may differ.
	leeway = time.Minute
	// maxAge is the age up to which a logout token is valid.
	maxAge = 5 * time.Minute
	// validity is how long a logout token can be valid here.
	validity = maxAge + 2*leeway
)

// logoutEvent is the member that the claim events must have (section 2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// token is a valid logout token.
type token struct {
	id        string    // its jti
	sub, sid  string    // what it ends: all sessions of a sub, if sid is empty
	endedUpTo time.Time // sessions of the sub that began later go on
}

// logoutToken returns the logout token of a request (section 2.5).
func logoutToken(header http.Header, body []byte) (string, error) {
	if media, _, err := mime.ParseMediaType(header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return "", requestError("the Content-Type is not application/x-www-form-urlencoded")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || len(form["logout_token"]) != 1 {
		return "", requestError("the form must have one logout_token")
	}
	return form.Get("logout_token"), nil
}

// read validates a logout token (section 2.6).
func (e *Endpoint) read(text string, now time.Time) (token, error) {
	claims, err := e.verifier.Verify(text)
	switch {
	case errors.Is(err, jose.ErrKeysUnavailable):
		return token{}, err
	case errors.Is(err, jose.ErrAlgorithm):
		return token{}, requestError("the logout token is not signed with " + strings.Join(e.algorithms, " or ") + ": `algorithms` has to name what the provider signs with")
	case err != nil:
		return token{}, requestError("the logout token is not signed by a key of the provider")
	}
	issued, hasIssued := numericDate(claims["iat"])
	expires, hasExpires := numericDate(claims["exp"])
	id, _ := claims["jti"].(string)
	subject, _ := claims["sub"].(string)
	sid, _ := claims["sid"].(string)
	events, _ := claims["events"].(map[string]any)
	_, isLogout := events[logoutEvent].(map[string]any)
	_, hasNonce := claims["nonce"]
	switch {
	case claims["iss"] != e.issuer:
		return token{}, requestError("iss is not the configured issuer")
	case !signals.Contains(claims["aud"], []string{e.audience}):
		return token{}, requestError("aud does not contain the configured audience")
	case !hasIssued || issued.After(now.Add(leeway)) || now.Sub(issued) > maxAge+leeway:
		return token{}, requestError("iat is missing, in the future or too old")
	case !hasExpires || expires.Before(now.Add(-leeway)):
		return token{}, requestError("exp is missing or in the past")
	case id == "" || len(id) > revocation.MaxID:
		return token{}, requestError("jti is missing or too long")
	case !isLogout:
		return token{}, requestError("events has no back-channel logout event")
	case hasNonce:
		return token{}, requestError("nonce is not allowed")
	case subject == "" && (sid == "" || e.endsUser):
		return token{}, requestError("sub is missing")
	}
	t := token{id: id, sub: subject, sid: sid, endedUpTo: now}
	if e.endsUser {
		t.sid = ""
	}
	// Whoever has signed in since the provider ended the sessions stays signed in. If
	// sessions only say when they were renewed, one that was ended may have been since.
	if e.lasting && issued.Before(now) {
		t.endedUpTo = issued
	}
	if len(subject) > revocation.MaxID || len(sid) > revocation.MaxID || strings.ContainsRune(subject+sid, 0) {
		return token{}, requestError("sub or sid is too long, or has a NUL byte")
	}
	return t, nil
}

// numericDate parses a NumericDate claim (RFC 7519, section 2).
func numericDate(claim any) (time.Time, bool) {
	number, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := number.Float64()
	if err != nil || !(seconds > 0 && seconds < 1e11) {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(seconds * 1e6)), true
}
