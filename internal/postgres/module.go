package postgres

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

func init() {
	caddy.RegisterModule(new(Module))
}

// Module looks users up in a table of a Postgres database. A handler without
// `directory` does so too, with the same options of its own.
type Module struct {
	DatabaseOptions
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: directories.Namespace + ".postgres", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile sets the module up from Caddyfile tokens. Syntax:
//
//	directory postgres {
//		database        <dsn>
//		users [<table>] { … }
//		query           <sql>
//		listen_database <dsn>
//	}
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return directive.Block(d, "directory postgres", m.Options())
}

// DatabaseOptions say where users are in Postgres.
type DatabaseOptions struct {
	// The Postgres to look users up in, as a connection URL or a keyword/value
	// string; Prisma's URL parameters are understood. Use a placeholder
	// ({env.NAME} or {file./path}), so that the password is not part of the
	// configuration. Default: {env.DATABASE_URL}.
	Database string `json:"database,omitempty"`

	// The users table and its columns. Default: found in the database, for the
	// schemas of the Auth.js adapters, Prisma and Better Auth.
	Users *Users `json:"users,omitempty"`

	// A query that replaces the users table. It has one parameter, a text[] of
	// subjects, and returns a row for each that exists: the column `id`, and
	// optionally `created_at`, `valid_after`, `disabled` and the columns to
	// match.
	Query string `json:"query,omitempty"`

	// The address for the connection that watches for changes: the direct address
	// of the same database, if Database is that of a transaction pooler such as
	// PgBouncer, which does not forward notifications. Default: Database.
	ListenDatabase string `json:"listen_database,omitempty"`
}

// Users names the users table and its columns. A column that is not named is
// used if it has a well-known name and type. Names are case-sensitive.
type Users struct {
	// The table, with its schema if it needs one: `User`, `auth.users`,
	// `"my.schema"."User"`. Default: found in the database.
	Table string `json:"table,omitempty"`

	// The column that holds the subject. Default: id.
	ID string `json:"id,omitempty"`

	// The column that holds the time of creation. A token issued before it is
	// stale: its subject was an earlier row's. A minute is allowed for clocks that
	// differ, unless the token was seen with the earlier row.
	CreatedAt string `json:"created_at,omitempty"`

	// The column that holds the time before which no session of the user is
	// valid: a password change, a ban, a sign-out everywhere.
	ValidAfter string `json:"valid_after,omitempty"`

	// The columns that disable the user: a boolean that is true, a time that has
	// passed, or an integer other than 0. Of columns that are found, such as
	// deletedAt, any time counts, also one to come. A time in banned_until or
	// bannedUntil disables up to it. `banned` counts only until the time in
	// banExpires or ban_expires, if there is such a column.
	Disabled []string `json:"disabled,omitempty"`

	// Claims that must equal columns: claim path to column name.
	Match map[string]string `json:"match,omitempty"`

	// The table of the accounts that users have linked at identity providers, with
	// its schema if that is another: see Handler.BackchannelLogout. Its columns are
	// those of Auth.js or Better Auth. Default: found next to the users table.
	Accounts string `json:"accounts,omitempty"`

	store       *formats.Store // the rows are sessions
	bannedUntil ban            // ends what the column banned says
	softDeletes bool           // Disabled was found: a time in it counts whatever it is, as apps filter it
	beside      []string       // columns of the same table that others read: see Directory.Beside
}

// Options are the options in a Caddyfile.
func (o *DatabaseOptions) Options() directive.Options {
	return directive.Options{
		"database":        directive.Text(&o.Database),
		"users":           directive.Nested(&o.Users),
		"query":           directive.Text(&o.Query),
		"listen_database": directive.Text(&o.ListenDatabase),
	}
}

// UnmarshalCaddyfile reads the table and the block of `users`.
func (u *Users) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		u.Table = d.Val()
	}
	return directive.Block(d, "users", directive.Options{
		"id":          directive.Text(&u.ID),
		"created_at":  directive.Text(&u.CreatedAt),
		"valid_after": directive.Text(&u.ValidAfter),
		"disabled":    directive.Texts(&u.Disabled),
		"match":       directive.Pairs(&u.Match),
		"accounts":    directive.Text(&u.Accounts),
	}, "match")
}

// claims returns the claims that must equal columns, sorted.
func (u Users) claims() []string { return slices.Sorted(maps.Keys(u.Match)) }

// matched returns the columns that claims must equal, in the order of the
// claims.
func (u Users) matched() []string {
	var columns []string
	for _, claim := range u.claims() {
		columns = append(columns, u.Match[claim])
	}
	return columns
}

// Config returns the configuration for Open. Placeholders are replaced each time
// that an address is used.
func (o DatabaseOptions) Config() Config {
	c := Config{
		DSN: environment.Later("database", cmp.Or(o.Database, "{env.DATABASE_URL}")), Query: o.Query,
		Logger: func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.directory") },
	}
	if o.ListenDatabase != "" {
		c.ListenDSN = environment.Later("listen_database", o.ListenDatabase)
	}
	if o.Users != nil {
		c.Users = *o.Users
	}
	return c
}

// ConfigOf returns the configuration of a module that looks users up in Postgres;
// false for any other module.
func ConfigOf(module directories.Module) (Config, bool) {
	if m, ok := module.(interface{ Config() Config }); ok {
		return m.Config(), true
	}
	return Config{}, false
}

// Rows returns the options that look sessions up in a table of the same database.
// What the session's user is called is Account.Matched.
func (o DatabaseOptions) Rows(of formats.Store) DatabaseOptions {
	o.Users, o.Query = &Users{Table: of.Table, ID: of.ID, store: &of}, ""
	return o
}

// OpenDirectory implements directories.Module.
func (o DatabaseOptions) OpenDirectory() (directories.Directory, error) { return Open(o.Config()) }

// WithTable returns the same module, which looks users up in a table, unless its options
// name another.
func (m *Module) WithTable(table string) directories.Module {
	other := *m
	if m.Query != "" || m.Users != nil && m.Users.Table != "" {
		return &other
	}
	other.Users = new(Users)
	if m.Users != nil {
		*other.Users = *m.Users
	}
	other.Users.Table = table
	return &other
}

// MatchedClaims implements directories.Module.
func (o DatabaseOptions) MatchedClaims() []string {
	if o.Users == nil {
		return nil
	}
	return o.Users.claims()
}

// Resolved implements directories.Resolver.
func (o DatabaseOptions) Resolved() (string, error) {
	c := o.Config()
	dsn, err := c.DSN()
	if err != nil {
		return "", fmt.Errorf("%w; set DATABASE_URL in Caddy's environment to the app's database, or add `database`", err)
	}
	listen := ""
	if c.ListenDSN != nil {
		if listen, err = c.ListenDSN(); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%q %q", dsn, listen), nil
}

// Interface guards
var (
	_ directories.Module   = (*Module)(nil)
	_ directories.Resolver = (*Module)(nil)
)
