// Package admin is the module's part of Caddy's admin endpoint: what somebody
// on call looks at, and does.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// base is the path below which everything is.
const base = "/stale_session/"

// The paths of the API.
const (
	StatusPath  = base + "status"
	EventsPath  = base + "events"
	FlushPath   = base + "flush"
	RevokePath  = base + "revoke"
	RestorePath = base + "restore"
	CheckPath   = base + "check"
)

// maxBody bounds what a request can say.
const maxBody = 128 << 10

// Site is a stale_session handler in use.
type Site struct {
	// Mode is enforce, observe or off.
	Mode string
	// Directory is where its users are looked up; nil with mode off.
	Directory *directory.Postgres
	// Revoked are the sessions that were ended by hand; nil with mode off.
	Revoked *revocation.List
	// Explain judges a session past every cache.
	Explain func(context.Context, Question) Reasoning
}

// sites returns the handlers of this process.
var sites func() []Site

// Register registers the API. Running returns the handlers in use.
func Register(running func() []Site) {
	sites = running
	caddy.RegisterModule(API{})
}

// API is the module's part of Caddy's admin endpoint. It answers in JSON, and
// never with a token, a secret or a password:
//
//	GET  /stale_session/status    handlers, databases and counters
//	GET  /stale_session/events    what was detected and what has happened, as server-sent events
//	POST /stale_session/flush     forgets all cached accounts, so that each is looked up again
//	POST /stale_session/revoke    {"subject": …} ends the sessions that a user has until now
//	POST /stale_session/restore   {"subject": …} takes that back
//	POST /stale_session/check     {"subject": …} or {"token": …} or {"cookies": …}: what would be judged, and why
//	GET  /stale_session/openapi.json
//
// Where handlers look users up in several databases, revoke and restore need
// {"database": …} too, as status names it.
type API struct{ context caddy.Context }

// CaddyModule returns the Caddy module information.
func (API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.stale_session", New: func() caddy.Module { return new(API) }}
}

// Provision implements caddy.Provisioner.
func (a *API) Provision(ctx caddy.Context) error {
	a.context = ctx
	return nil
}

// Routes implements caddy.AdminRouter.
func (a *API) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: base, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

// operation is what a path does.
type operation struct {
	method string
	serve  func(a *API, w http.ResponseWriter, r *http.Request) error
}

var operations = map[string]operation{
	StatusPath:            {http.MethodGet, plain(status)},
	EventsPath:            {http.MethodGet, (*API).events},
	FlushPath:             {http.MethodPost, plain(flush)},
	RevokePath:            {http.MethodPost, plain(revoke)},
	RestorePath:           {http.MethodPost, plain(restore)},
	CheckPath:             {http.MethodPost, plain(check)},
	base + "openapi.json": {http.MethodGet, plain(openAPI)},
}

// plain is an operation that needs nothing of the API.
func plain(serve func(http.ResponseWriter, *http.Request) error) func(*API, http.ResponseWriter, *http.Request) error {
	return func(_ *API, w http.ResponseWriter, r *http.Request) error { return serve(w, r) }
}

// serve finds the operation of a request.
func (a *API) serve(w http.ResponseWriter, r *http.Request) error {
	o, known := operations[r.URL.Path]
	switch {
	case !known:
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("there is no %s", r.URL.Path)}
	case r.Method != o.method && (o.method != http.MethodGet || r.Method != http.MethodHead):
		w.Header().Set("Allow", o.method)
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("%s takes %s", r.URL.Path, o.method)}
	}
	w.Header().Set("Cache-Control", "no-store")
	return o.serve(a, w, r)
}

// answer writes JSON.
func answer(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(value)
}

// refuse is the answer to a request that asks for what cannot be.
func refuse(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }

// read reads the body of a request.
func read(r *http.Request, into any) error {
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, fmt.Errorf("the body is no JSON as expected: %w", err))
	}
	return nil
}

// Flushed is the answer to a flush.
type Flushed struct {
	// Accounts is how many accounts were forgotten.
	Accounts int64 `json:"accounts"`
}

func flush(w http.ResponseWriter, _ *http.Request) error {
	var flushed Flushed
	for _, d := range distinct(func(s Site) *directory.Postgres { return s.Directory }) {
		flushed.Accounts += d.Flush()
	}
	telemetry.Happened("flushed", map[string]any{"accounts": flushed.Accounts})
	return answer(w, flushed)
}

// distinct returns what the sites have of a kind, each once.
func distinct[T comparable](of func(Site) T) []T {
	var none T
	var all []T
	for _, s := range sites() {
		if one := of(s); one != none && !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}

// Subject is whom revoke and restore are about.
type Subject struct {
	// Subject is the user id.
	Subject string `json:"subject"`
	// Database is that of the users table, as status names it. It can be left
	// out when there is one.
	Database string `json:"database,omitempty"`
}

// list returns the revocations that a request is about.
func (s Subject) list() (*revocation.List, error) {
	var found []*revocation.List
	var names []string
	for _, site := range sites() {
		if site.Directory == nil || slices.Contains(names, site.Directory.String()) || s.Database != "" && s.Database != site.Directory.String() {
			continue
		}
		names, found = append(names, site.Directory.String()), append(found, site.Revoked)
	}
	switch {
	case s.Subject == "":
		return nil, refuse(http.StatusBadRequest, errors.New("the subject is missing"))
	case len(found) == 0:
		return nil, refuse(http.StatusNotFound, errors.New("no stale_session handler looks users up in such a database"))
	case len(found) > 1:
		return nil, refuse(http.StatusConflict, fmt.Errorf("users are looked up in several databases: give `database`, one of %q", names))
	}
	return found[0], nil
}

func revoke(w http.ResponseWriter, r *http.Request) error {
	return change(w, r, "revoked", func(l *revocation.List, subject string) error {
		return l.Revoke(r.Context(), subject, time.Now())
	})
}

func restore(w http.ResponseWriter, r *http.Request) error {
	return change(w, r, "restored", func(l *revocation.List, subject string) error {
		return l.Restore(r.Context(), subject)
	})
}

// change changes the revocation of a subject.
func change(w http.ResponseWriter, r *http.Request, event string, do func(*revocation.List, string) error) error {
	var s Subject
	if err := read(r, &s); err != nil {
		return err
	}
	list, err := s.list()
	if err != nil {
		return err
	}
	if err := do(list, s.Subject); err != nil {
		return refuse(http.StatusUnprocessableEntity, err)
	}
	telemetry.Happened(event, map[string]any{"subject": s.Subject})
	return answer(w, s)
}

// Interface guards
var (
	_ caddy.AdminRouter = (*API)(nil)
	_ caddy.Provisioner = (*API)(nil)
)
