// Package admin serves the module's part of Caddy's admin API, and the dashboard,
// which can be on a site too.
package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// base is the path of the API on Caddy's admin endpoint.
const base = "/stale_session/"

// The paths of the API.
const (
	StatusPath  = base + "status"
	FlushPath   = base + "flush"
	RevokePath  = base + "revoke"
	RestorePath = base + "restore"
	CheckPath   = base + "check"
)

// maxBody is the size limit of a request body, in bytes.
const maxBody = 128 << 10

// Handler is a stale_session handler in use.
type Handler struct {
	// Mode is enforce, observe or off.
	Mode string
	// SignIn returns the address of its sign-in page, a path on the site or a URL.
	SignIn func() string
	// Accounts looks its users up; nil with mode off, as are SignIn and the others.
	Accounts *accounts.Engine
	// Reader reads its session cookies.
	Reader *session.Reader
	// Revoked are the sessions that were revoked.
	Revoked *revocation.List
	// Judge judges tokens by what is true now, without any cache.
	Judge func(ctx context.Context, tokens []session.Token, now time.Time) []verdict.Judgement
}

var (
	// inUse are the handlers of this process.
	inUse struct {
		sync.Mutex
		handlers []*Handler
	}
	// history returns the history of the counters, or nil without a handler.
	history func() *telemetry.History
)

// Register registers the API with Caddy. Recorded returns the history of the
// counters, or nil without a handler.
func Register(recorded func() *telemetry.History) {
	history = recorded
	caddy.RegisterModule(new(API))
}

// Modes returns the modes of the handlers in use.
func Modes() []string {
	var modes []string
	for _, h := range handlers() {
		modes = append(modes, h.Mode)
	}
	slices.Sort(modes)
	return slices.Compact(modes)
}

// AddHandler adds a handler to those that the API shows, until remove is called.
func AddHandler(h Handler) (remove func()) {
	inUse.Lock()
	defer inUse.Unlock()
	added := &h
	inUse.handlers = append(inUse.handlers, added)
	return func() {
		inUse.Lock()
		defer inUse.Unlock()
		inUse.handlers = slices.DeleteFunc(inUse.handlers, func(other *Handler) bool { return other == added })
	}
}

// handlers returns the handlers in use.
func handlers() []Handler {
	inUse.Lock()
	defer inUse.Unlock()
	all := make([]Handler, len(inUse.handlers))
	for i, h := range inUse.handlers {
		all[i] = *h
	}
	return all
}

// openDirectories returns the directories in use, each once.
func openDirectories() []*accounts.Engine {
	var all []*accounts.Engine
	for _, h := range handlers() {
		if h.Accounts != nil && !slices.Contains(all, h.Accounts) {
			all = append(all, h.Accounts)
		}
	}
	return all
}

// API is the module's part of Caddy's admin API. Its responses are JSON, and hold
// no token, no secret and no password:
//
//	GET  /stale_session/           the dashboard
//	GET  /stale_session/status     handlers, databases and counters
//	GET  /stale_session/history    the counters of the last hour, in samples of 5 seconds
//	GET  /stale_session/events     detections and changes of state, as server-sent events; ?status=2s adds the status every 2 seconds
//	POST /stale_session/flush      empties the cache of accounts
//	POST /stale_session/revoke     {"subject": …} ends all current sessions of a user
//	POST /stale_session/restore    {"subject": …} undoes revoke
//	POST /stale_session/check      {"subject": …} or {"token": …} or {"cookies": …}: the verdict on a session, and why
//	GET  /stale_session/openapi.json
//
// When the handlers use several databases, revoke and restore also need
// {"database": …}, a name from status.
type API struct{ panel Panel }

// CaddyModule returns the Caddy module information.
func (*API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.stale_session", New: func() caddy.Module { return new(API) }}
}

// Provision implements caddy.Provisioner.
func (a *API) Provision(ctx caddy.Context) error {
	a.panel = Panel{Actions: true, Done: ctx.Done()} // a reload starts another server
	return nil
}

// Routes implements caddy.AdminRouter.
func (a *API) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: base, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) error {
	return a.panel.serve(w, r, strings.TrimPrefix(r.URL.Path, base))
}

// writeJSON writes a response.
func writeJSON(w http.ResponseWriter, status int, value any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(value)
}

// apiError returns an error that is answered with a status.
func apiError(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }

// readJSON reads the body of a request.
func readJSON(r *http.Request, into any) error {
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return apiError(http.StatusBadRequest, fmt.Errorf("invalid request body: %w", err))
	}
	return nil
}

// Interface guards
var (
	_ caddy.AdminRouter = (*API)(nil)
	_ caddy.Provisioner = (*API)(nil)
)
