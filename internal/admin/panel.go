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

// Panel serves the dashboard and all that it asks for. The zero value lets one
// look only.
type Panel struct {
	// Actions lets one flush, revoke and restore.
	Actions bool
	// Ended ends the event streams.
	Ended <-chan struct{}
}

// operation is what a name does.
type operation struct {
	method string
	acts   bool // changes something
	serve  func(*Panel, http.ResponseWriter, *http.Request) error
}

var operations = map[string]operation{
	"status":       {method: http.MethodGet, serve: (*Panel).status},
	"history":      {method: http.MethodGet, serve: (*Panel).history},
	"events":       {method: http.MethodGet, serve: (*Panel).events},
	"flush":        {method: http.MethodPost, serve: (*Panel).flush, acts: true},
	"revoke":       {method: http.MethodPost, serve: (*Panel).revoke, acts: true},
	"restore":      {method: http.MethodPost, serve: (*Panel).restore, acts: true},
	"check":        {method: http.MethodPost, serve: (*Panel).check},
	"openapi.json": {method: http.MethodGet, serve: (*Panel).openAPI},
}

var sameOrigin = http.NewCrossOriginProtection()

// fromElsewhere refuses what a page of another site makes a browser send.
func fromElsewhere(r *http.Request) error {
	if err := sameOrigin.Check(r); err != nil {
		return refuse(http.StatusForbidden, fmt.Errorf("pages of other sites have no access: %w", err))
	}
	return nil
}

// serve serves the file or does the operation of a name.
func (p *Panel) serve(w http.ResponseWriter, r *http.Request, name string) error {
	protect(w.Header())
	o, known := operations[name]
	if f, isFile := files[name]; isFile {
		o, known = operation{method: http.MethodGet, serve: f.serve}, true
	}
	switch {
	case !known:
		return refuse(http.StatusNotFound, fmt.Errorf("there is no %s", r.URL.Path))
	case r.Method != o.method && (o.method != http.MethodGet || r.Method != http.MethodHead):
		w.Header().Set("Allow", o.method)
		return refuse(http.StatusMethodNotAllowed, fmt.Errorf("%s takes %s", r.URL.Path, o.method))
	}
	if err := fromElsewhere(r); err != nil {
		return err
	}
	if o.acts && !p.Actions {
		return refuse(http.StatusForbidden, errors.New("this dashboard is for looking only: `actions` in its stale_session_dashboard block lets it act"))
	}
	return o.serve(p, w, r)
}

// protect sets the header fields that every answer has.
func protect(header http.Header) {
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	// Caddy's admin endpoint wants to be told of the dashboard's own requests
	// where they come from, other sites learn nothing.
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
}

// ServeHTTP serves the dashboard on a site, at whatever path it is given there:
// the last part of the path counts. What it is asked to do has to come as JSON,
// which no form of another site can send.
func (p *Panel) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if name == "" {
		if asked := originalPath(r); !strings.HasSuffix(asked, "/") { // a prefix was taken off it
			w.Header().Set("Location", "./"+url.PathEscape(path.Base(asked))+"/")
			w.WriteHeader(http.StatusPermanentRedirect)
			return nil
		}
	}
	err := fromElsewhere(r)
	if err == nil {
		err = jsonOnly(r)
	}
	if err == nil {
		err = p.serve(w, r, name)
	}
	var refused caddy.APIError
	if !errors.As(err, &refused) {
		return err
	}
	protect(w.Header())
	return answerWith(w, refused.HTTPStatus, map[string]string{"error": refused.Err.Error()})
}

// jsonOnly refuses a POST of anything but JSON.
func jsonOnly(r *http.Request) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method == http.MethodPost && kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, errors.New("the Content-Type has to be application/json"))
	}
	return nil
}

// originalPath is the path that the browser has asked for.
func originalPath(r *http.Request) string {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return original.URL.Path
	}
	return r.URL.Path
}
