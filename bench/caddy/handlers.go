package main

import (
	"encoding/json"
	"net/http"
	"runtime"
	"runtime/metrics"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	register("bench_nothing", func() handler { return new(nothing) })
	register("bench_memory", func() handler { return new(memory) })
}

// handler is a handler without options.
type handler interface {
	caddy.Module
	caddyhttp.MiddlewareHandler
}

// register registers a handler and its directive, in the order of stale_session.
func register(name string, create func() handler) {
	caddy.RegisterModule(create())
	httpcaddyfile.RegisterHandlerDirective(name, func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return create(), nil
	})
	httpcaddyfile.RegisterDirectiveOrder(name, httpcaddyfile.Before, "basic_auth")
}

// nothing does nothing.
type nothing struct{}

// CaddyModule returns the Caddy module information.
func (nothing) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_nothing", New: func() caddy.Module { return new(nothing) }}
}

// ServeHTTP passes a request on.
func (nothing) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

// memory collects garbage and answers with the state of the heap.
type memory struct{}

// CaddyModule returns the Caddy module information.
func (memory) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_memory", New: func() caddy.Module { return new(memory) }}
}

// ServeHTTP answers in JSON.
func (memory) ServeHTTP(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	runtime.GC()
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(samples)
	return json.NewEncoder(w).Encode(map[string]uint64{"live": samples[0].Value.Uint64(), "collections": samples[1].Value.Uint64()})
}
