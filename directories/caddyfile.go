package directories

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

// UnmarshalCaddyfile sets the module up from Caddyfile tokens. Syntax:
//
//	directory postgres {
//		database        <dsn>
//		users [<table>] { … }
//		query           <sql>
//		poll            <duration>|off
//		listen_database <dsn>
//		brake           <percentage> [<duration>]
//	}
func (p *Postgres) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return directive.Block(d, "directory postgres", p.Options())
}

// Options are those of the module.
func (p *Postgres) Options() directive.Options {
	return directive.Options{
		"database":        directive.Text(&p.Database),
		"users":           directive.Nested(&p.Users),
		"query":           directive.Text(&p.Query),
		"poll":            directive.Text(&p.Poll),
		"listen_database": directive.Text(&p.ListenDatabase),
		"brake":           directive.Nested(&p.Brake),
	}
}

// UnmarshalCaddyfile takes the table and the block of `users`, whose name was
// read.
func (u *Users) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		u.Table = d.Val()
	}
	return directive.Block(d, "users", directive.Options{
		"id":          directive.Text(&u.ID),
		"created_at":  directive.Text(&u.CreatedAt),
		"valid_after": directive.Text(&u.ValidAfter),
		"disabled":    directive.Texts(&u.Disabled),
		"match":       match(&u.Match),
	}, "match")
}

// match takes a claim and what it has to equal.
func match(into *map[string]string) directive.Option {
	return func(d *caddyfile.Dispenser) error {
		var claim, column string
		if !d.AllArgs(&claim, &column) {
			return d.ArgErr()
		}
		if _, doubled := (*into)[claim]; doubled {
			return d.Errf("claim %q is matched twice", claim)
		}
		if *into == nil {
			*into = make(map[string]string)
		}
		(*into)[claim] = column
		return nil
	}
}

// UnmarshalCaddyfile takes the arguments of `brake`, whose name was read.
func (b *Brake) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if !d.Args(&b.Share) {
		return d.ArgErr()
	}
	if d.CountRemainingArgs() == 0 {
		return nil
	}
	return directive.Duration(&b.Window)(d)
}
