package stalesession

import (
	"maps"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/mode"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
)

func init() {
	httpcaddyfile.RegisterDirective("stale_session", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("stale_session", httpcaddyfile.Before, "basic_auth")
}

// parseDirective adds a handler for all requests of the site or block. The
// directive's matcher becomes an option of the handler, because a stale session is
// stripped where it does not match, too.
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

// UnmarshalCaddyfile parses the directive. Syntax:
//
//	stale_session [<matcher>] {
//		database        <dsn>
//		users [<table>] {
//			id          <column>
//			created_at  <column>
//			valid_after <column>
//			disabled    <column...>
//			match       <claim> <column>
//			accounts    <table>
//		}
//		query           <sql>
//		format          <module> [{ … }]     # again for each
//		secret          <secret...>
//		key_file        <path>
//		jwks            <path or URL>
//		issuer          <issuer>
//		audience        <audience>
//		cookie          <name...>
//		cookie_domain   <domain...>
//		subject         <claim>
//		issued_at       <claim>
//		sign_in         <path or URL>
//		auth_path       <path...>
//		clear_path      <path>|off
//		scrub           all|auth|off
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
//		directory       <module> [{ … }]     # in place of database, users, query, listen_database
//		revocations {
//			redis     <url>
//			name      <name>
//			life      <duration>
//		}
//		backchannel_logout {
//			issuer      <issuer>
//			audience    <client id>
//			jwks        <path or URL>
//			algorithms  <algorithm...>
//			provider    <id...>
//			sub_is_user_id
//			path        <path>
//			ends        session|user
//		}
//		global_token_revocation {             # again for each provider
//			path          <path>
//			secret        <secret>
//			issuer        <issuer>
//			jwks          <path or URL>
//			audience      <URL of the endpoint>
//			algorithms    <algorithm...>
//			provider      <name...>
//			sub_is_user_id
//			email_domains <domain...>
//		}
//		shared_signals {                      # again for each transmitter
//			path            <path>
//			issuer          <issuer>
//			audience        <audience...>
//			jwks            <path or URL>
//			algorithms      <algorithm...>
//			authorization   <header>
//			provider        <name...>
//			sub_is_user_id
//			email_domains   <domain...>
//			password_change ignore|end
//			transmitter     keycloak|authentik|okta|google
//		}
//		rescue          on|off
//		streams         on|off
//		cleanup {
//			every     <duration>
//			database  <dsn>
//			sessions  <table>
//			dry_run
//		}
//		timeout         <duration>
//	}
//
// The matcher selects the guarded routes: where people are sent to sign in. Each option but format, global_token_revocation and shared_signals can be set once.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	options := h.DatabaseOptions.Options()
	maps.Copy(options, h.LookupOptions.Options())
	maps.Copy(options, h.TokenOptions.Options())
	maps.Copy(options, h.Routes.Options())
	maps.Copy(options, h.Answers.Options())
	maps.Copy(options, directive.Options{
		"directory":          h.unmarshalDirectory,
		"format":             h.unmarshalFormat,
		"mode":               directive.Text(&h.Mode),
		"on_error":           directive.Text(&h.OnError),
		"require_session":    directive.Flag(&h.RequireSession),
		"revocations":        directive.Nested(&h.Revocations),
		"backchannel_logout": directive.Nested(&h.BackchannelLogout),

		"global_token_revocation": directive.Several(&h.TokenRevocation),
		"shared_signals":          directive.Several(&h.SharedSignals),

		"rescue":  directive.Text(&h.Rescue),
		"streams": directive.Text(&h.Streams),
		"cleanup": directive.Nested(&h.SessionCleanup),
	})
	err := directive.Block(d, "stale_session", options, "format", "global_token_revocation", "shared_signals")
	mode.Advise(h.Mode)
	return err
}

// unmarshalFormat parses a module that reads sessions.
func (h *Handler) unmarshalFormat(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	module, err := caddyfile.UnmarshalModule(d, formats.Namespace+"."+name)
	if err != nil {
		return err
	}
	h.FormatsRaw = append(h.FormatsRaw, caddyconfig.JSONModuleObject(module, "format", name, nil))
	return nil
}

// unmarshalDirectory parses the module that looks users up.
func (h *Handler) unmarshalDirectory(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	if err := provision.Linked(name); err != nil {
		return d.Errf("directory %s: %v", name, err)
	}
	module, err := caddyfile.UnmarshalModule(d, directories.Namespace+"."+name)
	if err != nil {
		return err
	}
	h.DirectoryRaw = caddyconfig.JSONModuleObject(module, "module", name, nil)
	return nil
}
