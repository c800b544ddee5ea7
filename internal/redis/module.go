package redis

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

func init() {
	caddy.RegisterModule(new(Module))
}

// Module looks users up in Redis 6 or later, or Valkey: those of the Upstash adapter
// of Auth.js, or others that are hashes or JSON objects.
//
// A missing key ends sessions only if a primary that evicts no keys says so. Changes
// are noticed at once, through client-side caching.
type Module struct {
	// The address: redis://, or rediss:// with TLS, then
	// [user:password@]host:port[/db]. With ?master_set=NAME it is the address of a
	// Sentinel. Each ?addr=host:port adds a Sentinel or cluster node. With TLS, the
	// certificate of each server must be for its host in the address, and its CA
	// must be trusted by the system or in the file that SSL_CERT_FILE names in
	// Caddy's environment. Use a placeholder. Default: {env.REDIS_URL}.
	URL string `json:"url,omitempty"`
	// The key of a user, with {subject} in place of the user id. Default:
	// user:{subject}, as the Upstash adapter writes it.
	Key string `json:"key,omitempty"`
	// The field with the time of creation, in RFC 3339, or seconds or milliseconds
	// since 1970. A token issued more than a minute before it is stale. Default:
	// none.
	CreatedAt string `json:"created_at,omitempty"`
	// The field with the time before which no session is valid, in the same formats.
	// Default: none.
	ValidAfter string `json:"valid_after,omitempty"`
	// The fields of which any disables the user: true, an integer other than 0, or a
	// time that is not in the future. Default: none.
	Disabled []string `json:"disabled,omitempty"`
	// The fields that claims must equal, by claim path. Default: none.
	Match map[string]string `json:"match,omitempty"`
	// Asserts that the server never evicts keys, if it does not report that itself.
	// Default: false.
	NoEviction bool `json:"no_eviction,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: directories.Namespace + ".redis", New: func() caddy.Module { return new(Module) }}
}

// MatchedClaims implements directories.Module.
func (r Module) MatchedClaims() []string { return slices.Sorted(maps.Keys(r.Match)) }

// OpenDirectory implements directories.Module.
func (r Module) OpenDirectory() (directories.Directory, error) {
	config := Config{
		URL: environment.Later("url", r.address()), Key: r.Key, CreatedAt: r.CreatedAt, ValidAfter: r.ValidAfter,
		Disabled: r.Disabled, NoEviction: r.NoEviction,
	}
	for _, claim := range r.MatchedClaims() {
		config.Match = append(config.Match, r.Match[claim])
	}
	return NewDirectory(config)
}

// OpenSessions returns the directory of the sessions that a library keeps in Redis.
func (Module) OpenSessions(of formats.Store) (directories.Directory, error) {
	return NewDirectory(Config{
		URL: func() (string, error) { return of.Redis, nil }, Key: of.Key, CreatedAt: of.Created[0], Match: of.User[:1],
	})
}

// OpenRevocations returns the store of the revocations of a users table, as
// OpenRevocations does.
func (Module) OpenRevocations(url func() (string, error), name string, life time.Duration) (revocation.Remote, error) {
	return OpenRevocations(url, name, life)
}

func (r Module) address() string { return cmp.Or(r.URL, "{env.REDIS_URL}") }

// Resolved implements directories.Resolver.
func (r Module) Resolved() (string, error) {
	url, err := environment.Later("url", r.address())()
	if err != nil {
		return "", fmt.Errorf("directory redis: %w; set REDIS_URL in Caddy's environment, or add `url`", err)
	}
	return url, nil
}

// UnmarshalCaddyfile parses the block of `directory redis`. Syntax:
//
//	directory redis {
//		url         <url>
//		key         <key with {subject}>
//		created_at  <field>
//		valid_after <field>
//		disabled    <field...>
//		match       <claim> <field>
//		no_eviction
//	}
func (r *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return directive.Block(d, "directory redis", directive.Options{
		"url":         directive.Text(&r.URL),
		"key":         directive.Text(&r.Key),
		"created_at":  directive.Text(&r.CreatedAt),
		"valid_after": directive.Text(&r.ValidAfter),
		"disabled":    directive.Texts(&r.Disabled),
		"match":       directive.Pairs(&r.Match),
		"no_eviction": directive.Flag(&r.NoEviction),
	}, "match")
}

// Interface guards
var (
	_ directories.Module   = (*Module)(nil)
	_ directories.Resolver = (*Module)(nil)
)
