package redis

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

func init() {
	caddy.RegisterModule(new(Module))
}

// Module looks users up in Redis or Valkey: as the Upstash adapter of Auth.js
// keeps them, or as an app of its own does, in hashes or in JSON.
//
// A user who is not there does not exist when a primary says so that evicts no
// keys. Changes are noticed at once, by client-side caching (Redis 6 or later).
type Module struct {
	// The address: redis://, or rediss:// with TLS, [user:password@]host:port
	// and /db. With ?master_set=NAME it is that of a Sentinel; ?addr=host:port
	// names further Sentinels, or nodes of a cluster. With TLS the certificate of
	// each server has to be for the host in the address, and of a CA that the
	// system trusts, or that is in the file which SSL_CERT_FILE names in Caddy's
	// environment. Use a placeholder. Default: {env.REDIS_URL}.
	URL string `json:"url,omitempty"`
	// The key of a user, with {subject} for the user id. Default:
	// user:{subject}, as the Upstash adapter has it.
	Key string `json:"key,omitempty"`
	// The field with the time of creation; a token issued before it, by more than a
	// minute, is stale. A time is RFC
	// 3339, or seconds or milliseconds since 1970. Default: none.
	CreatedAt string `json:"created_at,omitempty"`
	// The field with the time before which no session is valid. Default: none.
	ValidAfter string `json:"valid_after,omitempty"`
	// The fields that disable the user: true, an integer other than 0, or a
	// time that has come. Default: none.
	Disabled []string `json:"disabled,omitempty"`
	// Claims that have to equal fields: claim path to field.
	Match map[string]string `json:"match,omitempty"`
	// Asserts that the server never evicts keys, where it does not tell (INFO).
	// Default: false.
	NoEviction bool `json:"no_eviction,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: directories.Namespace + ".redis", New: func() caddy.Module { return new(Module) }}
}

// MatchedClaims returns the claims that have to equal fields.
func (r Module) MatchedClaims() []string { return slices.Sorted(maps.Keys(r.Match)) }

// OpenDirectory returns the directory, without connecting.
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

func (r Module) address() string { return cmp.Or(r.URL, "{env.REDIS_URL}") }

// Resolved is what makes it another directory when a placeholder has another
// value.
func (r Module) Resolved() (string, error) {
	url, err := environment.Later("url", r.address())()
	if err != nil {
		return "", fmt.Errorf("directory redis: %w; set REDIS_URL in Caddy's environment, or add `url`", err)
	}
	return url, nil
}

// UnmarshalCaddyfile sets the module up from Caddyfile tokens. Syntax:
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
