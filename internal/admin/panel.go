package admin

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Panel serves the dashboard and its API. The zero value is read-only.
type Panel struct {
	// Actions allows flush, revoke and restore.
	Actions bool
	// Done ends the event streams when it is closed.
	Done <-chan struct{}
}

// operation is an operation of the API.
type operation struct {
	method string
	action bool // needs Panel.Actions
	serve  func(*Panel, http.ResponseWriter, *http.Request) error
}

var operations = map[string]operation{
	"status":       {method: http.MethodGet, serve: (*Panel).status},
	"history":      {method: http.MethodGet, serve: (*Panel).history},
	"events":       {method: http.MethodGet, serve: (*Panel).events},
	"flush":        {method: http.MethodPost, serve: (*Panel).flush, action: true},
	"revoke":       {method: http.MethodPost, serve: (*Panel).revoke, action: true},
	"restore":      {method: http.MethodPost, serve: (*Panel).restore, action: true},
	"check":        {method: http.MethodPost, serve: (*Panel).check},
	"openapi.json": {method: http.MethodGet, serve: (*Panel).openAPI},
}

var sameOrigin = http.NewCrossOriginProtection()

// checkOrigin rejects requests that a page of another site makes a browser send.
func checkOrigin(r *http.Request) error {
	if err := sameOrigin.Check(r); err != nil {
		return apiError(http.StatusForbidden, err)
	}
	return nil
}

// serve serves the file or the operation with a name.
func (p *Panel) serve(w http.ResponseWriter, r *http.Request, name string) error {
	setSecurityHeaders(w.Header())
	o, known := operations[name]
	if f, isFile := files[name]; isFile {
		o, known = operation{method: http.MethodGet, serve: f.serve}, true
	}
	switch {
	case !known:
		return apiError(http.StatusNotFound, fmt.Errorf("%s does not exist", r.URL.Path))
	case r.Method != o.method && (o.method != http.MethodGet || r.Method != http.MethodHead):
		w.Header().Set("Allow", o.method)
		return apiError(http.StatusMethodNotAllowed, fmt.Errorf("%s does not allow %s: use %s", r.URL.Path, r.Method, o.method))
	}
	if err := checkOrigin(r); err != nil {
		return err
	}
	if o.action && !p.Actions {
		return apiError(http.StatusForbidden, errors.New("this dashboard is read-only: to allow actions, put `actions` into its stale_session_dashboard block"))
	}
	return o.serve(p, w, r)
}

// setSecurityHeaders sets the header fields that all responses have.
func setSecurityHeaders(header http.Header) {
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	// Caddy's admin endpoint checks where requests of the dashboard come from.
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
}

// ServeHTTP serves the dashboard on a site, at any path: only the part after the
// last slash counts. A POST must be JSON, which a form on another site cannot
// send.
func (p *Panel) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if name == "" {
		if full := originalPath(r); !strings.HasSuffix(full, "/") { // handle_path stripped all of it
			w.Header().Set("Location", "./"+url.PathEscape(path.Base(full))+"/")
			w.WriteHeader(http.StatusPermanentRedirect)
			return nil
		}
	}
	err := checkOrigin(r)
	if err == nil {
		err = checkContentType(r)
	}
	if err == nil {
		err = p.serve(w, r, name)
	}
	var failure caddy.APIError
	if !errors.As(err, &failure) {
		return err
	}
	setSecurityHeaders(w.Header())
	return writeJSON(w, failure.HTTPStatus, map[string]string{"error": failure.Err.Error()})
}

// checkContentType rejects a POST that is not JSON.
func checkContentType(r *http.Request) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method == http.MethodPost && kind != "application/json" {
		return apiError(http.StatusUnsupportedMediaType, errors.New("the Content-Type must be application/json"))
	}
	return nil
}

// originalPath returns the path of the request before rewrites.
func originalPath(r *http.Request) string {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return original.URL.Path
	}
	return r.URL.Path
}
