package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// Subject is the request to revoke or restore, and the response.
type Subject struct {
	// Subject is the user id.
	Subject string `json:"subject"`
	// Database is the name of the user's database in status. It is optional when
	// there is only one.
	Database string `json:"database,omitempty"`
	// Force revokes also if there is no such user.
	Force bool `json:"force,omitempty"`
}

// exists returns an error if no handler's database has the user.
func (s Subject) exists(ctx context.Context) error {
	if s.Force || len(s.Subject) > revocation.MaxID { // which Revoke refuses
		return nil
	}
	database := ""
	for _, h := range handlers() {
		if h.Accounts == nil || s.Database != "" && s.Database != h.Accounts.String() {
			continue
		}
		if !s.isMissing(ctx, h.Accounts) {
			return nil
		}
		database = h.Accounts.String()
	}
	if database == "" {
		return nil
	}
	return apiError(http.StatusUnprocessableEntity, fmt.Errorf("there is no user %q in the %s; add --force to revoke all the same, such as an id that a provider gives", s.Subject, database))
}

// isMissing reports whether a directory surely has no such user.
func (s Subject) isMissing(ctx context.Context, users *accounts.Engine) bool {
	var account accounts.Account
	now := time.Now()
	_, err := users.Lookup(ctx, accounts.Query{Query: directories.Query{Subject: []byte(s.Subject), Since: now}, Now: now}, &account)
	return err == nil && !account.Exists
}

// lists returns the revocation lists that the user can be in. Handlers with
// different options have separate lists for the same database.
func (s Subject) lists() ([]*revocation.List, error) {
	var found []*revocation.List
	var names []string
	for _, h := range handlers() {
		if h.Accounts == nil || s.Database != "" && s.Database != h.Accounts.String() {
			continue
		}
		if name := h.Accounts.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
		if !slices.Contains(found, h.Revoked) {
			found = append(found, h.Revoked)
		}
	}
	switch {
	case s.Subject == "":
		return nil, apiError(http.StatusBadRequest, errors.New("subject is required"))
	case len(names) == 0 && s.Database == "":
		return nil, apiError(http.StatusNotFound, errors.New("no stale_session handler is active: there is none, or all have `mode off`"))
	case len(names) == 0:
		return nil, apiError(http.StatusNotFound, errors.New("no stale_session handler uses this database: status has the names of all"))
	case len(names) > 1:
		return nil, apiError(http.StatusConflict, fmt.Errorf("the handlers use several databases: set `database` to one of %q", names))
	}
	return found, nil
}

func (*Panel) revoke(w http.ResponseWriter, r *http.Request) error {
	return update(w, r, "revoked", Subject.exists, func(l *revocation.List, subject string) error {
		return l.Revoke(r.Context(), revocation.Revocation{Subject: subject, At: time.Now()})
	})
}

func (*Panel) restore(w http.ResponseWriter, r *http.Request) error {
	return update(w, r, "restored", nil, func(l *revocation.List, subject string) error {
		return l.Restore(r.Context(), subject, time.Now())
	})
}

// update changes the revocation of a subject in all lists, and publishes an event.
// It does not if allowed, which may be nil, returns an error.
func update(w http.ResponseWriter, r *http.Request, event string, allowed func(Subject, context.Context) error, do func(*revocation.List, string) error) error {
	var s Subject
	if err := readJSON(r, &s); err != nil {
		return err
	}
	lists, err := s.lists()
	if err != nil {
		return err
	}
	if allowed != nil {
		if err := allowed(s, r.Context()); err != nil {
			return err
		}
	}
	var failures []error
	unchanged := 0
	for _, list := range lists {
		err := do(list, s.Subject)
		if errors.Is(err, revocation.ErrNone) {
			unchanged++
		} else if err != nil {
			failures = append(failures, err)
		}
	}
	if unchanged == len(lists) {
		failures = []error{revocation.ErrNone}
	}
	if len(failures) > 0 {
		return apiError(http.StatusUnprocessableEntity, errors.Join(failures...))
	}
	s.Force = false // that was the request
	telemetry.Publish(event, map[string]any{"subject": s.Subject})
	return writeJSON(w, http.StatusOK, s)
}
