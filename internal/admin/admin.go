// Package admin is the module's part of Caddy's admin endpoint, and the
// dashboard, which a site can have too: what somebody on call looks at, and does.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
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
	Directory directory.Directory
	// Revoked are the sessions that were ended by hand; nil with mode off.
	Revoked *revocation.List
	// Explain judges a session past every cache.
	Explain func(context.Context, Question) Reasoning
}

var (
	// inUse are the handlers of this process.
	inUse struct {
		sync.Mutex
		sites []*Site
	}
	// history returns what was counted lately, nil when there is no handler.
	history func() *telemetry.History
)

// Register registers the API. Recorded returns what was counted lately.
func Register(recorded func() *telemetry.History) {
	history = recorded
	caddy.RegisterModule(new(API))
}

// Enlist makes a handler known until it leaves.
func Enlist(site Site) (leave func()) {
	inUse.Lock()
	defer inUse.Unlock()
	enlisted := &site
	inUse.sites = append(inUse.sites, enlisted)
	return func() {
		inUse.Lock()
		defer inUse.Unlock()
		inUse.sites = slices.DeleteFunc(inUse.sites, func(other *Site) bool { return other == enlisted })
	}
}

// sites returns the handlers in use.
func sites() []Site {
	inUse.Lock()
	defer inUse.Unlock()
	all := make([]Site, len(inUse.sites))
	for i, site := range inUse.sites {
		all[i] = *site
	}
	return all
}

// API is the module's part of Caddy's admin endpoint. It answers in JSON, and
// never with a token, a secret or a password:
//
//	GET  /stale_session/           the dashboard
//	GET  /stale_session/status     handlers, databases and counters
//	GET  /stale_session/history    what was counted in the last hour
//	GET  /stale_session/events     what was detected and what has happened, as server-sent events; with ?status=2s the status too, so often
//	POST /stale_session/flush      forgets all cached accounts, so that each is looked up again
//	POST /stale_session/revoke     {"subject": …} ends the sessions that a user has until now
//	POST /stale_session/restore    {"subject": …} takes that back
//	POST /stale_session/check      {"subject": …} or {"token": …} or {"cookies": …}: what would be judged, and why
//	GET  /stale_session/openapi.json
//
// Where handlers look users up in several databases, revoke and restore need
// {"database": …} too, as status names it.
type API struct{ panel Panel }

// CaddyModule returns the Caddy module information.
func (*API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.stale_session", New: func() caddy.Module { return new(API) }}
}

// Provision implements caddy.Provisioner.
func (a *API) Provision(ctx caddy.Context) error {
	a.panel = Panel{Actions: true, Ended: ctx.Done()} // after a reload another server answers
	return nil
}

// Routes implements caddy.AdminRouter.
func (a *API) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: base, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) error {
	return a.panel.serve(w, r, strings.TrimPrefix(r.URL.Path, base))
}

// answer writes JSON.
func answer(w http.ResponseWriter, value any) error {
	return answerWith(w, http.StatusOK, value)
}

func answerWith(w http.ResponseWriter, status int, value any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
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

func (*Panel) flush(w http.ResponseWriter, _ *http.Request) error {
	var flushed Flushed
	for _, d := range distinct(func(s Site) directory.Directory { return s.Directory }) {
		flushed.Accounts += d.Flush()
	}
	telemetry.Publish("flushed", map[string]any{"accounts": flushed.Accounts})
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

// lists returns the revocations that a request is about: those of the users of
// one database, of which handlers with other options have a list of their own.
func (s Subject) lists() ([]*revocation.List, error) {
	var found []*revocation.List
	var names []string
	for _, site := range sites() {
		if site.Directory == nil || s.Database != "" && s.Database != site.Directory.String() {
			continue
		}
		if name := site.Directory.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
		if !slices.Contains(found, site.Revoked) {
			found = append(found, site.Revoked)
		}
	}
	switch {
	case s.Subject == "":
		return nil, refuse(http.StatusBadRequest, errors.New("the subject is missing"))
	case len(names) == 0 && s.Database == "":
		return nil, refuse(http.StatusNotFound, errors.New("there is no stale_session handler, or each has `mode off`"))
	case len(names) == 0:
		return nil, refuse(http.StatusNotFound, errors.New("no stale_session handler looks users up in such a database"))
	case len(names) > 1:
		return nil, refuse(http.StatusConflict, fmt.Errorf("users are looked up in several databases: give `database`, one of %q", names))
	}
	return found, nil
}

func (*Panel) revoke(w http.ResponseWriter, r *http.Request) error {
	return change(w, r, "revoked", func(l *revocation.List, subject string) error {
		return l.Revoke(r.Context(), revocation.Revocation{Subject: subject, At: time.Now()})
	})
}

func (*Panel) restore(w http.ResponseWriter, r *http.Request) error {
	return change(w, r, "restored", func(l *revocation.List, subject string) error {
		return l.Restore(r.Context(), subject, time.Now())
	})
}

// change changes the revocation of a subject, wherever that makes a difference.
func change(w http.ResponseWriter, r *http.Request, event string, do func(*revocation.List, string) error) error {
	var s Subject
	if err := read(r, &s); err != nil {
		return err
	}
	lists, err := s.lists()
	if err != nil {
		return err
	}
	var failures []error
	none := 0
	for _, list := range lists {
		err := do(list, s.Subject)
		if errors.Is(err, revocation.ErrNone) {
			none++
		} else if err != nil {
			failures = append(failures, err)
		}
	}
	if none == len(lists) {
		failures = []error{revocation.ErrNone}
	}
	if len(failures) > 0 {
		return refuse(http.StatusUnprocessableEntity, errors.Join(failures...))
	}
	telemetry.Publish(event, map[string]any{"subject": s.Subject})
	return answer(w, s)
}

// Interface guards
var (
	_ caddy.AdminRouter = (*API)(nil)
	_ caddy.Provisioner = (*API)(nil)
)
