package admin

import (
	"errors"
	"net/http"
	"time"
)

// Question is the request to check. It has exactly one of its fields.
type Question struct {
	// Subject is a user id.
	Subject string `json:"subject,omitempty"`
	// Token is the value of a session cookie.
	Token string `json:"token,omitempty"`
	// Cookies is the Cookie header of a request.
	Cookies string `json:"cookies,omitempty"`
}

// Reasoning is the verdict of one handler on a session, and the facts that led to
// it.
type Reasoning struct {
	// Mode is the mode of the handler.
	Mode string `json:"mode"`
	// Database is the name of its database.
	Database string `json:"database"`
	// Verdict is live, stale, anonymous, invalid or unknown.
	Verdict string `json:"verdict"`
	// Reason says why the session is stale.
	Reason string `json:"reason,omitempty"`
	// Source is where the account came from.
	Source string `json:"source,omitempty"`
	// Failure says why no token could be read.
	Failure string `json:"failure,omitempty"`
	// Error says why the account could not be looked up.
	Error string `json:"error,omitempty"`
	// Tokens are the tokens in the cookies.
	Tokens []Token `json:"tokens,omitempty"`
	// Account is the account of the subject.
	Account *Account `json:"account,omitempty"`
	// Revoked is the time before which the subject's sessions are revoked.
	Revoked *time.Time `json:"revoked,omitempty"`
}

// Token is a decoded session token.
type Token struct {
	// Cookies are the names of the cookies that held it.
	Cookies []string `json:"cookies"`
	// Subject is the user id in it.
	Subject string `json:"subject"`
	// IssuedAt is when it was issued; nil if it does not say.
	IssuedAt *time.Time `json:"issued_at,omitempty"`
	// ExpiresAt is when it expires; nil if it does not say.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Account is the account of a user in the database.
type Account struct {
	// Exists reports whether the user has a row.
	Exists bool `json:"exists"`
	// Disabled reports whether it is disabled.
	Disabled bool `json:"disabled"`
	// CreatedAt is when it was created; nil if that is not known.
	CreatedAt *time.Time `json:"created_at,omitempty"`
	// ValidAfter is the time before which all its sessions are stale; nil for
	// none.
	ValidAfter *time.Time `json:"valid_after,omitempty"`
}

// Checked is the response to check.
type Checked struct {
	// Handlers has an entry for each handler, except those with mode off.
	Handlers []Reasoning `json:"handlers"`
}

func (*Panel) check(w http.ResponseWriter, r *http.Request) error {
	var q Question
	if err := readJSON(r, &q); err != nil {
		return err
	}
	given := 0
	for _, text := range []string{q.Subject, q.Token, q.Cookies} {
		if text != "" {
			given++
		}
	}
	if given != 1 {
		return apiError(http.StatusBadRequest, errors.New("exactly one of subject, token and cookies is required"))
	}
	checked := Checked{Handlers: []Reasoning{}}
	for _, h := range handlers() {
		if h.Accounts != nil {
			checked.Handlers = append(checked.Handlers, h.explain(r.Context(), q))
		}
	}
	return writeJSON(w, http.StatusOK, checked)
}
