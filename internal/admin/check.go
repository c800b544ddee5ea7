package admin

import (
	"errors"
	"net/http"
	"time"
)

// Question is what check is asked: one of its texts.
type Question struct {
	// Subject is a user id.
	Subject string `json:"subject,omitempty"`
	// Token is the value of a session cookie.
	Token string `json:"token,omitempty"`
	// Cookies are the Cookie field of a request.
	Cookies string `json:"cookies,omitempty"`
}

// Reasoning is how a handler judges a session, and on what grounds.
type Reasoning struct {
	// Mode and Database are those of the handler.
	Mode     string `json:"mode"`
	Database string `json:"database"`
	// Verdict is live, stale, anonymous, invalid or unknown; Reason tells why
	// it is stale, Source where the account came from.
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
	Source  string `json:"source,omitempty"`
	// Failure tells why no token could be read.
	Failure string `json:"failure,omitempty"`
	// Error tells why the account could not be looked up.
	Error string `json:"error,omitempty"`
	// Tokens are what the cookies can be read as.
	Tokens []Token `json:"tokens,omitempty"`
	// Account is what the database says of the subject.
	Account *Account `json:"account,omitempty"`
	// Revoked is until when its sessions were ended by hand.
	Revoked *time.Time `json:"revoked,omitempty"`
}

// Token is what a token says.
type Token struct {
	// Cookies are the names of the cookies that it was put together from.
	Cookies []string `json:"cookies"`
	// Subject is the user id that it names.
	Subject string `json:"subject"`
	// IssuedAt and ExpiresAt are times that it names.
	IssuedAt  *time.Time `json:"issued_at,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Account is what the database says.
type Account struct {
	Exists     bool       `json:"exists"`
	Disabled   bool       `json:"disabled"`
	CreatedAt  *time.Time `json:"created_at,omitempty"`
	ValidAfter *time.Time `json:"valid_after,omitempty"`
}

// Checked is the answer to a check: of each handler once.
type Checked struct {
	Handlers []Reasoning `json:"handlers"`
}

func (*Panel) check(w http.ResponseWriter, r *http.Request) error {
	var q Question
	if err := read(r, &q); err != nil {
		return err
	}
	given := 0
	for _, text := range []string{q.Subject, q.Token, q.Cookies} {
		if text != "" {
			given++
		}
	}
	if given != 1 {
		return refuse(http.StatusBadRequest, errors.New("give one of subject, token and cookies"))
	}
	checked := Checked{Handlers: []Reasoning{}}
	for _, site := range sites() {
		if site.Accounts != nil {
			checked.Handlers = append(checked.Handlers, site.explain(r.Context(), q))
		}
	}
	return answer(w, checked)
}
