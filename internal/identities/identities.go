// Package identities finds the app's users by what an identity provider calls them.
package identities

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

// Users finds users of the app. It returns them as the subjects of sessions name them;
// none, without an error, only if it is certain that there are none. An error means that
// nothing is known, and says what to do; it never holds what was asked for.
type Users interface {
	// ByAccount returns the users that have linked the account sub of one of the
	// providers, as the app calls these in its table of linked accounts.
	ByAccount(ctx context.Context, providers []string, sub string) ([]string, error)
	// ByEmail returns the users with an email address, in any case. If the app records
	// whether an address was verified, only verified ones count.
	ByEmail(ctx context.Context, email string) ([]string, error)
}

// ErrNotAllowed is the error that the operator has not allowed an issuer to speak of
// what it speaks of. The errors that wrap it say what to add.
var ErrNotAllowed = errors.New("not allowed")

type notAllowedError string

func (e notAllowedError) Error() string { return string(e) }

// Is reports whether target is ErrNotAllowed.
func (notAllowedError) Is(target error) bool { return target == ErrNotAllowed }

// ErrUnsupported is the error that users cannot be found where the app's users are.
var ErrUnsupported = errors.New("`provider` and `email_domains` need the users in Postgres, and in a table: not `query`")

// Accounts say which accounts of the app's users are those of an issuer. An issuer
// speaks for no others.
type Accounts struct {
	// What the app calls the issuer in its table of linked accounts: the id of the
	// provider in Auth.js or Better Auth, such as `keycloak`. The issuer's `sub` is the
	// account's id there. Several, if the app knows the issuer by several names.
	// Default: none, the issuer can name no user.
	Provider []string `json:"provider,omitempty"`

	// The issuer's `sub` is the subject of the app's sessions itself. Set it only if
	// no session of another user can have such a subject. Default: false.
	SubIsUserID bool `json:"sub_is_user_id,omitempty"`
}

// Options are the options in a Caddyfile.
func (a *Accounts) Options() directive.Options {
	return directive.Options{
		"provider":       directive.Texts(&a.Provider),
		"sub_is_user_id": directive.Flag(&a.SubIsUserID),
	}
}

// Validate returns an error that names the wrong option.
func (a *Accounts) Validate() error {
	if len(a.Provider) > 0 && a.SubIsUserID {
		return errors.New("provider and sub_is_user_id exclude each other: remove one of them")
	}
	return nil
}

// Known reports whether the issuer can name users.
func (a *Accounts) Known() bool { return len(a.Provider) > 0 || a.SubIsUserID }

// Find returns the users whose account at the issuer is sub: see Users. The error is
// ErrNotAllowed if no option says which they are. Users is nil if the app's users are
// where they cannot be found.
func (a *Accounts) Find(ctx context.Context, users Users, sub string) ([]string, error) {
	switch {
	case a.SubIsUserID:
		return []string{sub}, nil
	case len(a.Provider) == 0:
		return nil, notAllowedError("whose `sub` it is, is not configured: add `provider` with what the app calls the issuer in its table of linked accounts, or `sub_is_user_id` if the app's sessions have it as their subject")
	case users == nil:
		return nil, ErrUnsupported
	}
	return users.ByAccount(ctx, a.Provider, sub)
}

// Domains are the domains of email addresses that an issuer may speak for, such as
// `example.com`. Default: none.
type Domains []string

// Find returns the users with an email address: see Users. The error is ErrNotAllowed if
// its domain is none of these.
func (d Domains) Find(ctx context.Context, users Users, email string) ([]string, error) {
	name, domain, _ := cutLast(email, "@")
	switch {
	case name == "" || !slices.ContainsFunc(d, func(allowed string) bool { return strings.EqualFold(allowed, domain) }):
		return nil, notAllowedError("the issuer may not name users by addresses of this domain: add it to `email_domains`")
	case users == nil:
		return nil, ErrUnsupported
	}
	return users.ByEmail(ctx, email)
}

// cutLast cuts a text around the last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return "", text, false
	}
	return text[:i], text[i+len(separator):], true
}
