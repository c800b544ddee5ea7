package postgres

import (
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

func TestWhatInstallGrants(t *testing.T) {
	t.Parallel()
	const table = `create table "User" (id text primary key, email text, "deletedAt" timestamptz, password text); insert into "User" (id) values ('stays')`
	const reset = `drop schema public cascade; create schema public; ` + table
	const defaults = "ALTER DEFAULT PRIVILEGES FOR ROLE %owner GRANT USAGE ON SCHEMAS TO %s; ALTER DEFAULT PRIVILEGES FOR ROLE %owner GRANT SELECT ON TABLES TO %s"
	const columns = `GRANT SELECT (id, "deletedAt") ON public."User" TO %s`
	for name, c := range map[string]struct {
		before       string // %owner, %s and %other are the owner, the role that is granted to, and another one
		as           string
		surviveReset bool
		denied       string // what is to be run as whom
		survives     bool
	}{
		"the owner":                                 {as: "owner"},
		"the owner, to survive a reset":             {as: "owner", surviveReset: true, survives: true},
		"a superuser, to survive a reset":           {as: "postgres", surviveReset: true, survives: true},
		"a member of the owner, to survive":         {before: `grant %owner to %other`, as: "other", surviveReset: true, survives: true},
		"a role that may not grant":                 {before: `grant usage on schema public to %other; grant select, trigger on "User" to %other`, as: "other", denied: "as %owner run GRANT USAGE ON SCHEMA public TO %s; " + columns + "; then install again"},
		"the same, to survive":                      {before: `grant usage on schema public to %other; grant select, trigger on "User" to %other`, as: "other", surviveReset: true, denied: "as %owner run GRANT USAGE ON SCHEMA public TO %s; " + columns + "; " + defaults + "; then install again"},
		"the same, but everything is granted":       {before: `grant usage on schema public to %other, %s; grant trigger on "User" to %other; grant select on "User" to %s; ` + strings.ToLower(strings.ReplaceAll(defaults, "TO %s", `to %s`)), as: "other", surviveReset: true, survives: true},
		"the owner of the table, not of its schema": {before: `alter schema public owner to %other; grant usage on schema public to %owner`, as: "owner", denied: "as %other run GRANT USAGE ON SCHEMA public TO %s; then install again"},
		"the same, but everybody may use that":      {before: `alter schema public owner to %other; grant usage, create on schema public to public`, as: "owner"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, `revoke all on schema public from public`)
			owner, asOwner := role(t, db, `grant create on database `+db+` to %s`, `alter schema public owner to %s`)
			runAs(t, asOwner, table)
			other, asOther := role(t, db)
			reader, asReader := role(t, db)
			sql := func(text string) string {
				return strings.NewReplacer("%s", reader, "%owner", owner, "%other", other).Replace(text)
			}
			if c.before != "" {
				run(t, db, sql(c.before))
			}
			d, _ := open(t, map[string]string{"owner": asOwner, "other": asOther, "postgres": server.DSN(db)}[c.as], Config{})
			granted, err := d.GrantSQL(t.Context(), []string{reader}, c.surviveReset)
			if err != nil {
				t.Fatal(err)
			}
			if c.surviveReset != strings.Contains(granted.Note, reader+" can read every table that "+owner+" creates") {
				t.Errorf("the price: %q", granted.Note)
			}
			if c.denied != "" {
				if granted.Denied == nil || !strings.HasSuffix(granted.Denied.Error(), sql(c.denied)) {
					t.Errorf("denied: %v, want %s", granted.Denied, sql(c.denied))
				}
				return
			}
			if granted.Denied != nil {
				t.Fatal(granted.Denied)
			}
			for range 2 { // twice does no harm
				if err := d.Run(t.Context(), granted.SQL); err != nil {
					t.Fatal(err)
				}
			}
			reads, _ := open(t, asReader, Config{})
			if !lookup(t, reads, "stays").Exists {
				t.Error("the user was not found")
			}
			if whole := strings.Contains(c.before, "select on"); may(t, asReader, `select password from "User"`) != whole {
				t.Errorf("the role may read passwords: %t", !whole)
			}
			runAs(t, asOwner, `drop table "User"; `+table) // its schema may not be the owner's
			if got := may(t, asReader, `select id from "User"`); got != c.survives {
				t.Errorf("after a reset of the table the role can read it: %t", got)
			}
			if c.as == "owner" && !strings.Contains(c.before, "alter schema") {
				runAs(t, asOwner, reset)
				if got := may(t, asReader, `select id from "User"`); got != c.survives {
					t.Errorf("after a reset of the schema the role can read it: %t", got)
				}
			}
		})
	}
}

// may reports whether the role of an address may run SQL.
func may(t testing.TB, dsn, sql string) bool {
	t.Helper()
	d, _ := open(t, dsn, Config{})
	_, err := d.pool.Exec(t.Context(), sql)
	if err != nil && !strings.Contains("42501 42P01", sqlState(err)) { // a table in an unusable schema is not seen
		t.Fatal(err)
	}
	return err == nil
}

func TestRolesThatCannotBeGrantedTo(t *testing.T) {
	t.Parallel()
	d, _ := open(t, server.DSN(database(t, oneUser)), Config{})
	for _, surviveReset := range []bool{false, true} {
		if _, err := d.GrantSQL(t.Context(), []string{"no such role"}, surviveReset); err == nil || !strings.Contains(err.Error(), "there is no such role") {
			t.Errorf("%v", err)
		}
	}
}

// A name in quotes, and a type in a schema that the role may not use.
func TestInstallGrantsWhatALookupNeeds(t *testing.T) {
	t.Parallel()
	db := database(t, `create schema "the extensions"; create extension citext schema "the extensions"; create schema "my app"; create table "my app"."The Users" ("The Id" "the extensions".citext primary key); insert into "my app"."The Users" values ('live')`)
	reader := `Reader "of" ` + db
	run(t, db, "create role "+quote(reader)+" login")
	users := Users{Table: `"my app"."The Users"`, ID: "The Id"}
	d, _ := open(t, server.DSN(db), Config{Users: users})
	granted, err := d.GrantSQL(t.Context(), []string{reader}, true)
	if err == nil {
		err = d.Run(t.Context(), granted.SQL)
	}
	if err != nil {
		t.Fatal(err)
	}
	reads, _ := open(t, strings.Replace(server.DSN(db), "postgres@", strings.NewReplacer(" ", "%20", `"`, "%22").Replace(reader)+"@", 1), Config{Users: users})
	visit(t, engine(t, reads, accounts.Config{Poll: -1}), visitor{subject: "LIVE", want: "live"}, visitor{subject: "gone", want: "user_not_found"})
}
