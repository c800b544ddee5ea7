package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// setup is a way to keep people who are gone out of an app. It has a Caddy, an app
// and a database of its own.
type setup struct {
	name    string
	bound   string // what ends a session that it does not refuse
	library library
	app     []string // variables of the app
	forward bool     // forward_auth to a Node service
	module  string   // the directive of the module
	trigger bool     // whether its triggers are installed
	base    int      // the set-up to which its cost is compared

	url, database string
	pool          *pgxpool.Pool
}

const (
	withLoginAt = guarded + " {\n\t\tissued_at loginAt\n\t}"
	pollBound   = "`poll`, 500 ms by default, and a lookup"
)

// setups are what is compared.
func setups() []*setup {
	authJS, better := authJSLibrary, betterAuthLibrary
	return []*setup{
		{name: "Auth.js, JWT alone", library: authJS, bound: "until the cookie expires: `session.maxAge`, 30 days after its last use, which renews it"},
		{name: "Auth.js, a database check in its `jwt` callback", library: authJS, app: []string{"CHECK=1"}, bound: "one query"},
		{name: "Auth.js, `forward_auth` to a Node service", library: authJS, forward: true, bound: "one call and one query"},
		{name: "Auth.js, `stale_session`", library: authJS, module: withLoginAt, bound: pollBound},
		{name: "Auth.js, `stale_session` with triggers", library: authJS, module: withLoginAt, trigger: true, bound: "a notification; `poll` if it is lost"},
		{name: "Better Auth, cookie cache of 5 minutes", library: better, app: []string{"CACHE=1"}, bound: "until the cache ends: `cookieCache.maxAge`, 5 minutes after it was made", base: 5},
		{name: "Better Auth, no cookie cache", library: better, bound: "its own queries", base: 5},
		{name: "Better Auth, cookie cache, `stale_session` with triggers", library: better, app: []string{"CACHE=1"}, module: guarded, trigger: true, bound: "a notification for a user, `poll` for a row of `session`", base: 5},
	}
}

// changes are what happens to a user, in the order of library.changes.
var changes = []string{"deleted", "disabled", "signed out everywhere"}

// library is what an app keeps its sessions with.
type library struct {
	name    string
	schema  []string
	changes []string // statements for the user $1
	signIn  func(context.Context, *setup) (person, error)
}

// person is somebody who is signed in.
type person struct{ id, cookie string }

var authJSLibrary = library{
	name: "@auth/express",
	schema: []string{
		`create table "User" (id text primary key, name text, email text unique, disabled boolean not null default false, "sessionsValidAfter" timestamptz)`,
		fmt.Sprintf(`insert into "User" (id, name, email) select 'other' || n, 'Person', 'other' || n || '@example.com' from generate_series(1, %d) n`, others),
	},
	changes: []string{
		`delete from "User" where id = $1`,
		`update "User" set disabled = true where id = $1`,
		`update "User" set "sessionsValidAfter" = now() where id = $1`,
	},
	signIn: func(ctx context.Context, s *setup) (p person, err error) {
		err = s.pool.QueryRow(ctx, `insert into "User" (id, name, email) select id, 'Person', id || '@example.com' from (select gen_random_uuid()::text id) new returning id`).Scan(&p.id)
		if err != nil {
			return p, err
		}
		ago := time.Now().Add(-time.Hour)
		token, err := mint.V5(secret, cookieV5, map[string]any{
			"sub": p.id, "name": "Person", "email": p.id + "@example.com", "iat": ago.Unix(), "loginAt": ago.UnixMilli(),
		})
		p.cookie = cookieV5 + "=" + token
		return p, err
	},
}

// betterAuthLibrary changes what the plugin admin and revokeSessions change: they
// also delete the rows of sessions. Those of a deleted user go by their foreign key.
var betterAuthLibrary = library{
	name:   "better-auth",
	schema: nil, // the app creates it
	changes: []string{
		`delete from "user" where id = $1`,
		`with ended as (delete from session where "userId" = $1) update "user" set banned = true where id = $1`,
		`delete from session where "userId" = $1`,
	},
	signIn: func(ctx context.Context, s *setup) (p person, err error) {
		body := fmt.Sprintf(`{"name":"Person","password":"a password","email":"p%d@example.com"}`, time.Now().UnixNano())
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/auth/sign-up/email", strings.NewReader(body))
		if err != nil {
			return p, err
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Origin", s.url)
		response, err := transport.RoundTrip(request)
		if err != nil {
			return p, err
		}
		defer response.Body.Close()
		var pairs []string
		for _, cookie := range response.Cookies() {
			pairs = append(pairs, cookie.Name+"="+cookie.Value)
		}
		p.cookie = strings.Join(pairs, "; ")
		if p.cookie == "" {
			return p, fmt.Errorf("%s: signing up is answered with %s", s.name, response.Status)
		}
		email := body[strings.LastIndex(body, ":")+2 : len(body)-2]
		return p, s.pool.QueryRow(ctx, `select id from "user" where email = $1`, email).Scan(&p.id)
	},
}

// others is how many users there are who do nothing.
const others = 10_000

// betterAuthSecret is 32 bytes at least.
const betterAuthSecret = secret + ", which is long enough"

// startSetup starts a set-up in a database of its own.
func (b *bed) startSetup(ctx context.Context, s *setup) error {
	var err error
	if s.database, err = b.postgres.NewDatabase(ctx); err != nil {
		return err
	}
	dsn := b.postgres.DSN(s.database)
	if err := b.postgres.Exec(ctx, s.database, s.library.schema...); err != nil {
		return err
	}
	variables := []string{"DATABASE_URL=" + dsn, "BETTER_AUTH_SECRET=" + betterAuthSecret, "NODE_ENV=production"}
	node := func(program string, more ...string) (string, error) {
		address, err := freeAddress(ctx)
		if err != nil {
			return "", err
		}
		_, err = b.startServer(ctx, address, slices.Concat(variables, more, []string{"LISTEN=" + address}), "node", filepath.Join(nodeDir, program))
		return address, err
	}
	if b.app, err = node("app.mjs", slices.Concat(s.app, []string{"LIBRARY=" + s.library.name})...); err != nil {
		return err
	}
	directives := s.module
	if s.forward {
		service, err := node("forward-auth.mjs", "LIBRARY=@auth/core")
		if err != nil {
			return err
		}
		directives = "forward_auth /admin* " + service + " {\n\t\turi /\n\t}"
	}
	if s.trigger {
		if _, err := runProgram(ctx, ".", b.options.caddy, "stale-session", "install", "--database", dsn); err != nil {
			return err
		}
	}
	if s.url, _, err = b.startCaddy(ctx, directives, variables...); err != nil {
		return err
	}
	s.pool, err = pgxpool.New(ctx, dsn)
	return err
}

// changed commits what happens to somebody.
func (s *setup) changed(ctx context.Context, statement string, p person) error {
	tag, err := s.pool.Exec(ctx, statement, p.id)
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New(s.name + ": " + tag.String() + " for one person")
	}
	return err
}

// queries returns how many statements Postgres has run so far in a set-up's database.
func (s *setup) queries(ctx context.Context, conn *pgx.Conn) (n int, err error) {
	err = conn.QueryRow(ctx, `select coalesce(sum(calls), 0)::int from pg_stat_statements join pg_database on oid = dbid where datname = $1`, s.database).Scan(&n)
	return n, err
}
