package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// byAccount returns the users whose account at a provider is sub.
func byAccount(t *testing.T, d *Directory, sub string, providers ...string) []string {
	t.Helper()
	found, err := d.ByAccount(t.Context(), providers, sub)
	if err != nil {
		t.Fatalf("looking %q up: %v", sub, err)
	}
	slices.Sort(found)
	return found
}

// fails returns the class of an error, which must say something.
func fails(t *testing.T, err error, says ...string) directories.Class {
	t.Helper()
	var known *directories.Error
	if !errors.As(err, &known) {
		t.Fatalf("error %v", err)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
	return known.Class
}

func TestUsersAreFoundByTheirAccountsInWellKnownSchemas(t *testing.T) {
	t.Parallel()
	const uuid = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
	// In each, ada has the account s1 of keycloak, and eve has s1 of google.
	for name, c := range map[string]struct {
		schema string
		users  Users
		ada    string
	}{
		"the pg adapter": {
			schema: `create table users (id serial primary key, name varchar(255), email varchar(255), "emailVerified" timestamptz, image text);
				create table accounts (id serial primary key, "userId" integer not null, type varchar(255) not null, provider varchar(255) not null, "providerAccountId" varchar(255) not null, refresh_token text, id_token text);
				insert into users values (41), (42); insert into accounts ("userId", type, provider, "providerAccountId") values (41, 'oidc', 'keycloak', 's1'), (42, 'oidc', 'google', 's1')`,
			ada: "41",
		},
		"Prisma": {
			schema: `create table "User" (id text primary key, email text);
				create table "Account" (id text primary key, "userId" text not null references "User", type text, provider text not null, "providerAccountId" text not null);
				create unique index on "Account" (provider, "providerAccountId");
				insert into "User" values ('ada'), ('eve'); insert into "Account" values ('1', 'ada', 'oidc', 'keycloak', 's1'), ('2', 'eve', 'oidc', 'google', 's1')`,
			ada: "ada",
		},
		"Prisma, mapped to snake case": {
			schema: `create table users (id uuid primary key); create table accounts (id text primary key, user_id uuid not null references users, provider text not null, provider_account_id text not null);
				insert into users values ('` + uuid + `'), (gen_random_uuid()); insert into accounts values ('1', '` + uuid + `', 'keycloak', 's1')`,
			ada: uuid,
		},
		"Drizzle": {
			schema: `create table "user" (id text primary key); create table account ("userId" text not null references "user", type text, provider text, "providerAccountId" text, primary key (provider, "providerAccountId"));
				insert into "user" values ('ada'); insert into account values ('ada', 'oidc', 'keycloak', 's1')`,
			ada: "ada",
		},
		"create-t3-app": {
			schema: `create table shop_user (id varchar(255) primary key); create table shop_account (user_id varchar(255) references shop_user, type varchar(255), provider varchar(255), provider_account_id varchar(255), primary key (provider, provider_account_id));
				insert into shop_user values ('ada'); insert into shop_account values ('ada', 'oidc', 'keycloak', 's1')`,
			users: Users{Table: "shop_user"}, ada: "ada",
		},
		"Supabase's adapter": {
			schema: `create schema next_auth; create table next_auth.users (id uuid primary key); create table next_auth.accounts (id uuid, provider text, "providerAccountId" text, "userId" uuid references next_auth.users);
				insert into next_auth.users values ('` + uuid + `'); insert into next_auth.accounts values (gen_random_uuid(), 'keycloak', 's1', '` + uuid + `')`,
			ada: uuid,
		},
		"NextAuth 3": {
			schema: `create table users (id serial primary key); create table accounts (id serial, compound_id text, user_id int, provider_type text, provider_id text, provider_account_id text);
				insert into users values (7); insert into accounts (user_id, provider_id, provider_account_id) values (7, 'keycloak', 's1')`,
			ada: "7",
		},
		"Better Auth": {
			schema: `create table "user" (id text primary key, email text, "emailVerified" boolean); create table account (id text primary key, "accountId" text not null, "providerId" text not null, "userId" text not null references "user", password text);
				insert into "user" values ('ada'), ('eve'); insert into account values ('1', 's1', 'keycloak', 'ada'), ('2', 's1', 'google', 'eve'), ('3', 'ada', 'credential', 'ada')`,
			ada: "ada",
		},
		"Better Auth, snake case, and renamed": {
			schema: `create table auth_users (id int primary key); create table auth_accounts (id int, account_id text, provider_id text, user_id int); insert into auth_users values (1); insert into auth_accounts values (1, 's1', 'keycloak', 1)`,
			users:  Users{Table: "auth_users"}, ada: "1",
		},
		"a copy besides": {
			schema: `create table "User" (id text primary key); create table "Account" ("userId" text, provider text, "providerAccountId" text); insert into "User" values ('ada'); insert into "Account" values ('ada', 'keycloak', 's1');
				create table "Account_old" as select 'eve' as "userId", provider, "providerAccountId" from "Account"`,
			ada: "ada",
		},
		"another name": {
			schema: `create table people (id text primary key); create table logins ("userId" text, provider text, "providerAccountId" text); insert into people values ('ada'); insert into logins values ('ada', 'keycloak', 's1')`,
			users:  Users{Table: "people"}, ada: "ada",
		},
		"named, in another schema": {
			schema: `create table users (id text primary key); create schema auth; create table auth."Logins" (user_id text, provider text, provider_account_id text); insert into users values ('ada'); insert into auth."Logins" values ('ada', 'keycloak', 's1');
				create table accounts ("userId" text, provider text, "providerAccountId" text)`,
			users: Users{Accounts: "auth.Logins"}, ada: "ada",
		},
		"sessions that name users by email": {
			schema: `create table users (id serial primary key, email text unique); create table accounts ("userId" int references users, provider text, "providerAccountId" text);
				insert into users values (1, 'ada@example.com'); insert into accounts values (1, 'keycloak', 's1')`,
			users: Users{ID: "email"}, ada: "ada@example.com",
		},
		"accounts that refer to another key": {
			schema: `create table users (id serial primary key, key text unique); create table accounts ("userId" text references users (key), provider text, "providerAccountId" text);
				insert into users values (1, 'k1'); insert into accounts values ('k1', 'keycloak', 's1')`,
			ada: "1",
		},
		"named, of users with the same ids": {
			schema: `create table users (id text primary key); create table people (id text primary key); create table accounts ("userId" text references people, provider text, "providerAccountId" text);
				insert into users values ('ada'); insert into people values ('ada'); insert into accounts values ('ada', 'keycloak', 's1')`,
			users: Users{Table: "users", Accounts: "accounts"}, ada: "ada",
		},
		"a named view": {
			schema: `create table users (id text primary key); create table links ("user" text, at text, is_ text); insert into users values ('ada'); insert into links values ('ada', 'keycloak', 's1');
				create view accounts as select "user" as "userId", at as provider, is_ as "providerAccountId" from links`,
			users: Users{Accounts: "accounts"}, ada: "ada",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, c.schema)), Config{Users: c.users})
			if found := byAccount(t, d, "s1", "keycloak"); !slices.Equal(found, []string{c.ada}) {
				t.Errorf("found %q, want %s", found, c.ada)
			}
			for what, found := range map[string][]string{
				"another account":        byAccount(t, d, "s2", "keycloak"),
				"of another provider":    byAccount(t, d, "s1", "github"),
				"of no provider":         byAccount(t, d, "s1"),
				"the name of a provider": byAccount(t, d, "keycloak", "keycloak"),
				"in upper case":          byAccount(t, d, "S1", "keycloak"),
				"the user's own id":      byAccount(t, d, c.ada, "keycloak"),
				"empty":                  byAccount(t, d, "", "keycloak"),
				"no text":                byAccount(t, d, "s1\x00", "keycloak"),
				"no UTF-8":               byAccount(t, d, "s1\xff", "keycloak"),
			} {
				if len(found) > 0 {
					t.Errorf("%s: found %q", what, found)
				}
			}
		})
	}
}

func TestAllUsersOfAnAccountAreFound(t *testing.T) {
	t.Parallel()
	d, _ := open(t, server.DSN(database(t, `create table users (id text primary key); create table account (id text, "accountId" text, "providerId" text, "userId" text);
		insert into users values ('ada'), ('eve'), ('bob'); insert into account values ('1', 's1', 'keycloak', 'ada'), ('2', 's1', 'keycloak', 'eve'), ('3', 's1', 'intern', 'bob'), ('4', 's1', 'keycloak', 'ada'), ('5', 's1', 'keycloak', null)`)), Config{})
	if found := byAccount(t, d, "s1", "keycloak", "intern"); !slices.Equal(found, []string{"ada", "bob", "eve"}) {
		t.Errorf("found %q", found)
	}
}

// Policies that show all rows to a role, such as the one that our errors advise, hide
// nobody.
func TestAPolicyThatShowsAllRowsHidesNobody(t *testing.T) {
	t.Parallel()
	db := database(t, `create table users (id text primary key, email text); insert into users values ('ada', 'ada@example.com'); alter table users enable row level security; create policy all_rows on users for select using (true);
		create table accounts ("userId" text, provider text, "providerAccountId" text); insert into accounts values ('ada', 'keycloak', 's1'); alter table accounts enable row level security; create policy all_rows on accounts for select using (true)`)
	_, dsn := role(t, db, "grant select on users to %s", "grant select on accounts to %s")
	d, _ := open(t, dsn, Config{})
	if found := byAccount(t, d, "s1", "keycloak"); !slices.Equal(found, []string{"ada"}) {
		t.Errorf("by account: found %q", found)
	}
	if found := byAccount(t, d, "s2", "keycloak"); len(found) > 0 {
		t.Errorf("another account: found %q", found)
	}
	if found, err := d.ByEmail(t.Context(), "ada@example.com"); err != nil || !slices.Equal(found, []string{"ada"}) {
		t.Errorf("by address: found %q, error %v", found, err)
	}
	if found := d.DiagnoseLinked(t.Context(), []string{"keycloak"}); len(found) != 1 || found[0].Level != directories.Good {
		t.Errorf("doctor: %v", found)
	}
}

// What cannot be looked up is not "no such user".
func TestAFailedSearchFindsNotNobody(t *testing.T) {
	t.Parallel()
	const users = `create table users (id text primary key, email text); insert into users values ('ada', 'ada@example.com');`
	const accounts = users + `create table accounts ("userId" text, provider text, "providerAccountId" text, refresh_token text); insert into accounts values ('ada', 'keycloak', 's1');`
	const copied = `create table copy as select * from accounts;`
	for name, c := range map[string]struct {
		schema string
		grants []string // to the role; none: the owner asks
		config Config
		class  directories.Class
		says   []string
	}{
		"no table":                    {schema: users, class: directories.Schema, says: []string{"no table of linked accounts", "accounts TABLE", "sub_is_user_id"}},
		"a table that lacks a column": {schema: users + `create table accounts ("userId" text, provider text)`, class: directories.Schema, says: []string{"no table of linked accounts"}},
		"two columns of one meaning":  {schema: users + `create table accounts ("userId" text, user_id text, provider text, "providerAccountId" text)`, class: directories.Schema, says: []string{"no table of linked accounts"}},
		"accounts of other users": {
			schema: users + `create table members (id text primary key); create table accounts ("userId" text references members, provider text, "providerAccountId" text); insert into members values ('ada'); insert into accounts values ('ada', 'keycloak', 's1')`,
			config: Config{Users: Users{Table: "users"}}, class: directories.Schema, says: []string{`"accounts" refers to other users than`, "accounts TABLE"},
		},
		"a named table that is missing": {
			schema: accounts, config: Config{Users: Users{Accounts: "public.links"}}, class: directories.Schema, says: []string{"no table public.links"},
		},
		"two tables, neither named like the users": {
			schema: accounts + copied + `alter table accounts rename to links`, class: directories.Schema, says: []string{"`accounts public.copy`, `accounts public.links`", "block of `users`"},
		},
		"a view that nobody has named": {
			schema: accounts + `alter table accounts rename to links; create view accounts as select "userId", provider, "providerAccountId" from links where false; create schema x; alter table links set schema x`,
			class:  directories.Unproven, says: []string{"public", "is not a table"},
		},
		"a copy that lags": {
			schema: accounts + `alter table accounts rename to links; create schema x; alter table links set schema x; create materialized view accounts as select * from x.links where false`,
			config: Config{Users: Users{Accounts: "accounts"}}, class: directories.Unproven, says: []string{"may be behind"},
		},
		"a role without rights": {
			schema: accounts, grants: []string{"grant select on users to %s"}, class: directories.Rights,
			says: []string{`GRANT SELECT ("userId", provider, "providerAccountId") ON public.accounts TO `},
		},
		"a role with a right to some columns": {
			schema: accounts, grants: []string{"grant select on users to %s", `grant select ("userId", provider) on accounts to %s`}, class: directories.Rights, says: []string{"GRANT SELECT", `"providerAccountId"`},
		},
		"a role without rights to the key of the users": {
			schema: accounts, grants: []string{"grant select (email) on users to %s", "grant select on accounts to %s"}, config: Config{Users: Users{ID: "email"}}, class: directories.Rights, says: []string{"GRANT SELECT (id, email) ON public.users TO"},
		},
		"a policy that hides rows": {
			schema: accounts + `alter table accounts enable row level security; create policy own on accounts using (provider = 'google')`, grants: []string{"grant select on users to %s", "grant select on accounts to %s"},
			class: directories.Unproven, says: []string{"row-level security hides rows", "CREATE POLICY stale_session ON public.accounts"},
		},
		"a query in place of the users table": {
			schema: accounts, config: Config{Query: "select id from users where id = any($1::text[])"}, class: directories.Schema, says: []string{"`query` replaces the users table"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, c.schema)
			dsn := server.DSN(db)
			if c.grants != nil {
				_, dsn = role(t, db, c.grants...)
			}
			d, _ := open(t, dsn, c.config)
			for _, sub := range []string{"s1", "s2"} {
				found, err := d.ByAccount(t.Context(), []string{"keycloak"}, sub)
				if class := fails(t, err, c.says...); class != c.class || len(found) > 0 {
					t.Errorf("class %s, found %q", class, found)
				}
			}
		})
	}
}

func TestADatabaseThatIsAwayIsAFailure(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "postgres://u@127.0.0.1:1/x", Config{})
	for what, find := range map[string]func(context.Context) ([]string, error){
		"by account": func(ctx context.Context) ([]string, error) { return d.ByAccount(ctx, []string{"keycloak"}, "s1") },
		"by email":   func(ctx context.Context) ([]string, error) { return d.ByEmail(ctx, "ada@example.com") },
	} {
		if _, err := find(t.Context()); fails(t, err) != directories.Down {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

// A role needs no right to the tokens that the table has besides.
func TestASearchReadsOnlyItsColumns(t *testing.T) {
	t.Parallel()
	db := database(t, `create table users (id text primary key, password text); create table accounts ("userId" text, provider text, "providerAccountId" text, refresh_token text); insert into accounts values ('ada', 'keycloak', 's1', 'secret')`)
	_, dsn := role(t, db, "grant select (id) on users to %s", `grant select ("userId", provider, "providerAccountId") on accounts to %s`)
	d, _ := open(t, dsn, Config{})
	if found := byAccount(t, d, "s1", "keycloak"); !slices.Equal(found, []string{"ada"}) {
		t.Errorf("found %q", found)
	}
}

// A table that a reset creates again, and a connection that the server has ended, are
// found again.
func TestASearchSurvivesAResetAndARestart(t *testing.T) {
	t.Parallel()
	const schema = `create table users (id text primary key); create table accounts ("userId" text, provider text, "providerAccountId" text);`
	db := database(t, schema)
	d, _ := open(t, server.DSN(db), Config{})
	if found := byAccount(t, d, "s1", "keycloak"); len(found) > 0 {
		t.Errorf("found %q", found)
	}
	run(t, db, `drop table users, accounts; create table users (id int primary key); create table account (user_id int, provider_id text, account_id text); insert into account values (1, 'keycloak', 's1')`)
	if found := byAccount(t, d, "s1", "keycloak"); !slices.Equal(found, []string{"1"}) {
		t.Errorf("after a reset: found %q", found)
	}
	run(t, db, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
	if found := byAccount(t, d, "s1", "keycloak"); !slices.Equal(found, []string{"1"}) {
		t.Errorf("after a restart: found %q", found)
	}
}

func TestUsersAreFoundByTheirEmail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema string
		config Config
		email  string
		want   []string
		says   string // the error
	}{
		"in any case":       {schema: `create table users (id int primary key, email text); insert into users values (1, 'Ada@Example.com'), (2, 'eve@example.com')`, email: "aDa@example.COM", want: []string{"1"}},
		"nobody":            {schema: `create table users (id int primary key, email text); insert into users values (1, 'ada@example.com')`, email: "bob@example.com"},
		"no pattern":        {schema: `create table users (id int primary key, email text); insert into users values (1, 'ada@example.com')`, email: "%@example.com"},
		"all of an address": {schema: `create table users (id int primary key, email text); insert into users values (1, 'ada@example.com'), (2, 'ADA@example.com')`, email: "ada@example.com", want: []string{"1", "2"}},
		"verified, by Better Auth": {
			schema: `create table "user" (id text primary key, email text, "emailVerified" boolean); insert into "user" values ('ada', 'a@example.com', true), ('eve', 'a@example.com', false), ('bob', 'a@example.com', null)`, email: "a@example.com", want: []string{"ada"},
		},
		"verified at a provider, by Auth.js": {
			schema: `create table "User" (id text primary key, email text, "emailVerified" timestamptz); insert into "User" values ('ada', 'a@example.com', null)`, email: "a@example.com", want: []string{"ada"},
		},
		"that is what sessions name": {
			schema: `create table users (id int primary key, email text); insert into users values (1, 'ada@example.com')`, config: Config{Users: Users{ID: "email"}}, email: "ADA@example.com", want: []string{"ada@example.com"},
		},
		"citext":     {schema: `create extension citext; create table users (id int primary key, email citext); insert into users values (1, 'ada@example.com')`, email: "Ada@example.com", want: []string{"1"}},
		"no column":  {schema: `create table users (id int primary key, mail text)`, email: "a@example.com", says: "no column email"},
		"by a query": {schema: `create table users (id int primary key, email text)`, config: Config{Query: "select id from users where id = any($1::text[]::int[])"}, email: "a@example.com", says: "`query` replaces"},
		"no text":    {schema: `create table users (id int primary key, email text)`, email: "a\x00@example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, c.schema)), c.config)
			found, err := d.ByEmail(t.Context(), c.email)
			if c.says != "" {
				fails(t, err, c.says)
				return
			}
			if slices.Sort(found); err != nil || !slices.Equal(found, c.want) {
				t.Errorf("found %q, want %q, error %v", found, c.want, err)
			}
		})
	}
}

func TestDoctorNamesTheTableOfLinkedAccounts(t *testing.T) {
	t.Parallel()
	db := database(t, `create table users (id text primary key); create table accounts ("userId" text, provider text, "providerAccountId" text); insert into accounts values ('ada', 'google', 's1'), ('eve', 'github', 's2')`)
	d, _ := open(t, server.DSN(db), Config{})
	var texts []string
	for _, f := range d.DiagnoseLinked(t.Context(), []string{"google", "keycloak"}) {
		texts = append(texts, string(f.Level)+": "+f.Text+": "+f.Remedy)
	}
	want := []string{
		`good: accounts at identity providers are looked up in "public"."accounts": provider provider, account providerAccountId, user userId: `,
		`note: nobody has linked an account of the provider "keycloak": the providers there are: github, google`,
	}
	if !slices.Equal(texts, want) {
		t.Errorf("found %q", texts)
	}
	run(t, db, "drop table accounts")
	if found := d.DiagnoseLinked(t.Context(), []string{"google"}); len(found) != 1 || found[0].Level != directories.Bad || !strings.Contains(found[0].Remedy, "no table of linked accounts") {
		t.Errorf("found %v", found)
	}
}
