package stalesession

import (
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterDirective("stale_session", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("stale_session", httpcaddyfile.Before, "basic_auth")
}

// parseDirective sets up one handler for every request of the site, or of the
// block that the directive stands in. The directive's matcher becomes the
// handler's own: it says which routes are guarded, while the sign-in page and
// the auth routes have to be scrubbed all the same.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	handler := new(Handler)
	if matchers != nil {
		handler.GuardedRaw = caddyhttp.RawMatcherSets{matchers}
	}
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, handler), nil
}

// UnmarshalCaddyfile sets the handler up from Caddyfile tokens. Syntax:
//
//	stale_session [<matcher>] {
//		database        <dsn>
//		users [<table>] {
//			id          <column>
//			created_at  <column>
//			valid_after <column>
//			disabled    <column...>
//			match       <claim> <column>
//		}
//		query           <sql>
//		secret          <secret...>
//		key_file        <path>
//		jwks            <path or URL>
//		issuer          <issuer>
//		audience        <audience>
//		cookie          <name...>
//		cookie_domain   <domain>
//		subject         <claim>
//		issued_at       <claim>
//		sign_in         <path or URL>
//		clear_path      <path>|off
//		scrub           auth|all|off
//		respond         auto|redirect|json|error
//		mode            enforce|observe|off
//		on_error        allow|deny
//		require_session
//		cache {
//			ttl         <duration>
//			size        <accounts>
//		}
//		poll            <duration>|off
//		listen_database <dsn>
//		brake           <percentage> [<duration>]
//		rescue          on|off
//		cleanup {
//			every     <duration>
//			database  <dsn>
//			sessions  <table>
//			dry_run
//		}
//		timeout         <duration>
//	}
//
// The matcher selects the guarded routes. Each option may stand once.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	return options(d, 0, func(option string) error {
		switch option {
		case "database":
			return text(d, &h.Database)
		case "users":
			h.Users = new(Users)
			return h.Users.unmarshal(d)
		case "query":
			return text(d, &h.Query)
		case "secret":
			return texts(d, &h.Secrets)
		case "key_file":
			return text(d, &h.KeyFile)
		case "jwks":
			return text(d, &h.JWKS)
		case "issuer":
			return text(d, &h.Issuer)
		case "audience":
			return text(d, &h.Audience)
		case "cookie":
			return texts(d, &h.Cookies)
		case "cookie_domain":
			return text(d, &h.CookieDomain)
		case "subject":
			return text(d, &h.Subject)
		case "issued_at":
			return text(d, &h.IssuedAt)
		case "sign_in":
			return text(d, &h.SignIn)
		case "clear_path":
			return text(d, &h.ClearPath)
		case "scrub":
			return text(d, &h.Scrub)
		case "respond":
			return text(d, &h.Respond)
		case "mode":
			return text(d, &h.Mode)
		case "on_error":
			return text(d, &h.OnError)
		case "require_session":
			h.RequireSession = true
			return nothing(d)
		case "cache":
			h.Cache = new(Cache)
			return h.Cache.unmarshal(d)
		case "poll":
			return text(d, &h.Poll)
		case "listen_database":
			return text(d, &h.ListenDatabase)
		case "brake":
			h.Brake = new(Brake)
			return h.Brake.unmarshal(d)
		case "rescue":
			return text(d, &h.Rescue)
		case "cleanup":
			h.SessionCleanup = new(Cleanup)
			return h.SessionCleanup.unmarshal(d)
		case "timeout":
			return duration(d, &h.Timeout)
		}
		return d.Errf("unrecognized option %q", option)
	})
}

func (u *Users) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		u.Table = d.Val()
	}
	if err := nothing(d); err != nil {
		return err
	}
	return options(d, d.Nesting(), func(option string) error {
		switch option {
		case "id":
			return text(d, &u.ID)
		case "created_at":
			return text(d, &u.CreatedAt)
		case "valid_after":
			return text(d, &u.ValidAfter)
		case "disabled":
			return texts(d, &u.Disabled)
		case "match":
			return u.unmarshalMatch(d)
		}
		return d.Errf("unrecognized option %q of users", option)
	}, "match")
}

func (u *Users) unmarshalMatch(d *caddyfile.Dispenser) error {
	var claim, column string
	if !d.AllArgs(&claim, &column) {
		return d.ArgErr()
	}
	if _, doubled := u.Match[claim]; doubled {
		return d.Errf("claim %q is matched twice", claim)
	}
	if u.Match == nil {
		u.Match = make(map[string]string)
	}
	u.Match[claim] = column
	return nil
}

func (c *Cache) unmarshal(d *caddyfile.Dispenser) error {
	if err := nothing(d); err != nil {
		return err
	}
	return options(d, d.Nesting(), func(option string) error {
		switch option {
		case "ttl":
			return duration(d, &c.TTL)
		case "size":
			var size string
			if err := text(d, &size); err != nil {
				return err
			}
			n, err := strconv.Atoi(size)
			if err != nil || n <= 0 {
				return d.Errf("size is %q; it must be a number above 0", size)
			}
			c.Size = n
			return nil
		}
		return d.Errf("unrecognized option %q of cache", option)
	})
}

func (c *Cleanup) unmarshal(d *caddyfile.Dispenser) error {
	if err := nothing(d); err != nil {
		return err
	}
	return options(d, d.Nesting(), func(option string) error {
		switch option {
		case "every":
			return duration(d, &c.Every)
		case "database":
			return text(d, &c.Database)
		case "sessions":
			return text(d, &c.Sessions)
		case "dry_run":
			c.DryRun = true
			return nothing(d)
		}
		return d.Errf("unrecognized option %q of cleanup", option)
	})
}

func (b *Brake) unmarshal(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.ArgErr()
	}
	b.Share = args[0]
	if len(args) == 1 {
		return nil
	}
	window, err := caddy.ParseDuration(args[1])
	if err != nil || window <= 0 {
		return d.Errf("%q is no length of time above 0, such as 1m", args[1])
	}
	b.Window = caddy.Duration(window)
	return nil
}

// options calls parse for each option of a block. An option that stands there
// twice is an error, but for those that may repeat.
func options(d *caddyfile.Dispenser, nesting int, parse func(option string) error, repeat ...string) error {
	seen := make(map[string]bool)
	for d.NextBlock(nesting) {
		option := d.Val()
		if seen[option] && !slices.Contains(repeat, option) {
			return d.Errf("option %q stands here twice", option)
		}
		seen[option] = true
		if err := parse(option); err != nil {
			return err
		}
	}
	return nil
}

// nothing takes the end of a line.
func nothing(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	return nil
}

// text takes the one argument of an option.
func text(d *caddyfile.Dispenser, into *string) error {
	option := d.Val()
	if !d.AllArgs(into) {
		return d.ArgErr()
	}
	if *into == "" {
		return d.Errf("option %q has an empty value", option)
	}
	return nil
}

// texts takes the arguments of an option, at least one.
func texts(d *caddyfile.Dispenser, into *[]string) error {
	option := d.Val()
	*into = d.RemainingArgs()
	if len(*into) == 0 {
		return d.ArgErr()
	}
	if slices.Contains(*into, "") {
		return d.Errf("option %q has an empty value", option)
	}
	return nil
}

// duration takes a length of time above 0.
func duration(d *caddyfile.Dispenser, into *caddy.Duration) error {
	var value string
	if err := text(d, &value); err != nil {
		return err
	}
	parsed, err := caddy.ParseDuration(value)
	if err != nil || parsed <= 0 {
		return d.Errf("%q is no length of time above 0, such as 500ms", value)
	}
	*into = caddy.Duration(parsed)
	return nil
}
