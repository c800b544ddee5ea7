// Package admin is the module's part of Caddy's admin endpoint.
package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
)

// FlushPath is where a POST makes the module forget all accounts.
const FlushPath = "/stale_session/flush"

// Flushed is the answer to a flush.
type Flushed struct {
	// Accounts is how many accounts were forgotten.
	Accounts int64 `json:"accounts"`
}

// running returns the directories of this process.
var running func() []*directory.Postgres

// Register registers the routes. Directories returns those that are in use.
func Register(directories func() []*directory.Postgres) {
	running = directories
	caddy.RegisterModule(API{})
}

// API is the module's part of Caddy's admin endpoint:
//
//	POST /stale_session/flush    forgets all cached accounts, so that each is looked up again; answers {"accounts": how many}
type API struct{}

// CaddyModule returns the Caddy module information.
func (API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.stale_session", New: func() caddy.Module { return new(API) }}
}

// Routes implements caddy.AdminRouter.
func (API) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: FlushPath, Handler: caddy.AdminHandlerFunc(flush)}}
}

func flush(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("flush takes a POST")}
	}
	var answer Flushed
	for _, d := range running() {
		answer.Accounts += d.Flush()
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

// Interface guards
var _ caddy.AdminRouter = API{}
