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

func TestInstallGrantsTheTableOfLinkedAccounts(t *testing.T) {
	t.Parallel()
	const users = `create table users (id text primary key); insert into users values ('ada'); `
	const accounts = `create table accounts ("userId" text references users, provider text, "providerAccountId" text, access_token text); insert into accounts values ('ada', 'keycloak', 's1'); `
	for name, c := range map[string]struct {
		schema string
		config Users
		found  bool
		note   string // %s is the role
	}{
		"of Auth.js":                             {schema: users + accounts, found: true},
		"of Better Auth":                         {schema: `create table "user" (id text primary key); insert into "user" values ('ada'); create table account ("userId" text, "providerId" text, "accountId" text, access_token text); insert into account values ('ada', 'keycloak', 's1')`, found: true},
		"named, in another schema":               {schema: users + `create schema idp; ` + accounts + `alter table accounts set schema idp`, config: Users{Accounts: "idp.accounts"}, found: true},
		"by another column":                      {schema: `create table users (id int unique, email text primary key); insert into users values (1, 'ada'); create table accounts ("userId" int references users (id), provider text, "providerAccountId" text, access_token text); insert into accounts values (1, 'keycloak', 's1')`, config: Users{ID: "email"}, found: true},
		"none":                                   {schema: users},
		"named, and there is none":               {schema: users, config: Users{Accounts: "accounts"}, note: "there is no table accounts"},
		"several":                                {schema: users + accounts + `create table copy as table accounts; alter table accounts rename to links`},
		"of somebody else":                       {schema: users + accounts + `alter table accounts owner to postgres`, note: `%s may not read the table of linked accounts, which ` + "`provider`" + ` needs: as postgres run GRANT SELECT ("userId", provider, "providerAccountId") ON public.accounts TO %s`},
		"in a schema that the owner may not use": {schema: users + accounts + `alter table accounts owner to postgres; create schema idp; alter table accounts set schema idp; alter table idp.accounts owner to %owner`, config: Users{Accounts: "idp.accounts"}, note: `%s may not read the table of linked accounts, which ` + "`provider`" + ` needs: as postgres run GRANT USAGE ON SCHEMA idp TO %s`},
		"of somebody else, granted":              {schema: users + accounts + `alter table accounts owner to postgres; grant select ("userId", provider, "providerAccountId") on accounts to %s`, found: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, `revoke all on schema public from public`)
			reader, asReader := role(t, db)
			owner, asOwner := role(t, db, `grant create on database `+db+` to %s`, `alter schema public owner to %s`)
			superuser := strings.Index(c.schema, "alter table accounts owner")
			if superuser < 0 {
				superuser = len(c.schema)
			}
			runAs(t, asOwner, c.schema[:superuser])
			if rest := strings.NewReplacer("%owner", owner, "%s", reader).Replace(c.schema[superuser:]); rest != "" {
				run(t, db, rest)
			}
			d, _ := open(t, asOwner, Config{Users: c.config})
			granted, err := d.GrantSQL(t.Context(), []string{reader}, false)
			if err != nil || granted.Denied != nil {
				t.Fatal(err, granted.Denied)
			}
			if want := strings.ReplaceAll(c.note, "%s", reader); want == "" && granted.Note != "" || !strings.HasPrefix(granted.Note, want) {
				t.Errorf("note %q, want %q", granted.Note, want)
			}
			for range 2 { // twice does no harm
				if err := d.Run(t.Context(), granted.SQL); err != nil {
					t.Fatal(err)
				}
			}
			reads, _ := open(t, asReader, Config{Users: c.config})
			if found, err := reads.ByAccount(t.Context(), []string{"keycloak"}, "s1"); (len(found) == 1 && found[0] == "ada" && err == nil) != c.found {
				t.Errorf("found %q, error %v", found, err)
			}
			for _, table := range []string{"accounts", "account", "links", "idp.accounts"} {
				if may(t, asReader, "select access_token from "+table) {
					t.Errorf("the role may read the tokens in %s", table)
				}
			}
		})
	}
}
