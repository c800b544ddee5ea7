package directories

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
)

func init() {
	caddy.RegisterModule(new(Postgres))
}

// Postgres looks users up in a table of a Postgres database. It is what a
// handler without `directory` does. The options are those of the handler.
type Postgres struct {
	// As the option `database` of the handler.
	Database string `json:"database,omitempty"`
	// As the option `users` of the handler.
	Users *Users `json:"users,omitempty"`
	// As the option `query` of the handler.
	Query string `json:"query,omitempty"`
	// As the option `poll` of the handler.
	Poll string `json:"poll,omitempty"`
	// As the option `listen_database` of the handler.
	ListenDatabase string `json:"listen_database,omitempty"`
	// As the option `brake` of the handler.
	Brake *Brake `json:"brake,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Postgres) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: Namespace + ".postgres", New: func() caddy.Module { return new(Postgres) }}
}

// MatchedClaims returns the claims that have to equal columns.
func (p Postgres) MatchedClaims() []string {
	if p.Users == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(p.Users.Match))
}

// Users names the users table and its columns. A column that is not named is
// used when it has a well-known name and type. Names are exact: upper and lower
// case differ.
type Users struct {
	// The table, with its schema if it needs one: `User`, `auth.users`,
	// `"my.schema"."User"`. Default: found in the database.
	Table string `json:"table,omitempty"`

	// The column that holds the subject. Default: id.
	ID string `json:"id,omitempty"`

	// The column that holds the time of creation. A token issued before it,
	// by more than a minute, is stale: its subject was an earlier row's.
	CreatedAt string `json:"created_at,omitempty"`

	// The column that holds the time before which no session of the user is
	// valid: a password change, a ban, a sign-out everywhere.
	ValidAfter string `json:"valid_after,omitempty"`

	// The columns that disable the user: a boolean that is true, a time that
	// has come, or an integer other than 0.
	Disabled []string `json:"disabled,omitempty"`

	// Claims that have to equal columns: claim path to column name.
	Match map[string]string `json:"match,omitempty"`
}

// Brake keeps sessions from being ended by a mistake: another database, an
// empty table, row-level security, a restored snapshot. While it is on, stale
// sessions are logged and counted, and pass. It is taken off when the users
// are back, and when the users table was recreated or emptied, which is a
// reset. It is on from the start until the first user was found.
type Brake struct {
	// The share of the users seen in Window that can be gone at once, as a
	// percentage such as `50%`. It takes ten users to count.
	Share string `json:"share,omitempty"`

	// How far back users count as seen. Default: 1m.
	Window caddy.Duration `json:"window,omitempty"`
}

// Config says where and how users are looked up, in addition to what a
// configuration says of any directory.
func (p Postgres) Config(config directory.Config) (directory.Config, error) {
	config.DSN, config.Query = environment.Later("database", cmp.Or(p.Database, "{env.DATABASE_URL}")), p.Query
	if p.ListenDatabase != "" {
		config.ListenDSN = environment.Later("listen_database", p.ListenDatabase)
	}
	if u := p.Users; u != nil {
		config.Users = directory.Users{Table: u.Table, ID: u.ID, CreatedAt: u.CreatedAt, ValidAfter: u.ValidAfter, Disabled: u.Disabled}
		for _, claim := range p.MatchedClaims() {
			config.Users.Match = append(config.Users.Match, u.Match[claim])
		}
	}
	var err error
	if config.Poll, err = readPoll(p.Poll); err != nil {
		return config, err
	}
	if p.Brake != nil {
		config.BrakeWindow = cmp.Or(time.Duration(p.Brake.Window), time.Minute)
		config.BrakeShare, err = readShare(p.Brake.Share)
	}
	return config, err
}

// Bounds of Postgres.Poll.
const (
	minPoll = 10 * time.Millisecond
	maxPoll = 10 * time.Second
)

// readPoll reads how often the database is polled: below 0 for never.
func readPoll(text string) (time.Duration, error) {
	switch text {
	case "":
		return 0, nil
	case "off":
		return -1, nil
	}
	poll, err := caddy.ParseDuration(text)
	if err != nil || poll < minPoll || poll > maxPoll {
		return 0, fmt.Errorf("poll is %q; it can be a time from %s to %s, or off", text, minPoll, maxPoll)
	}
	return poll, nil
}

// readShare reads a percentage.
func readShare(text string) (float64, error) {
	number, isPercentage := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil || !isPercentage || !(percent > 0 && percent <= 100) {
		return 0, fmt.Errorf("the share of brake is %q; it can be a percentage above 0, such as 50%%", text)
	}
	return percent / 100, nil
}
