package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/uuid"
)

func TestTheCaseOfAnEmailAddressDoesNotMatter(t *testing.T) {
	t.Parallel()
	const rows = `; insert into users (email) values ('alice@x.com'), ('Bob@X.com')`
	visitors := []visitor{
		{subject: "Alice@X.com", want: "live"},
		{subject: "alice@x.com", want: "live"},
		{subject: "ALICE@X.COM", want: "live"},
		{subject: "bob@x.com", want: "live"},
		{subject: "carol@x.com", want: "user_not_found"},
		{subject: "alice@x.co", want: "user_not_found"},
	}
	byEmail := Config{Users: Users{ID: "email"}}
	for name, c := range map[string]struct {
		schema   string
		config   Config
		visitors []visitor
	}{
		"text, without an index":           {`create table users (email text)` + rows, byEmail, nil},
		"text, unique":                     {`create table users (email text unique)` + rows, byEmail, nil},
		"varchar, unique":                  {`create table users (email varchar(255) unique)` + rows, byEmail, nil},
		"char":                             {`create table users (email char(40) unique)` + rows, byEmail, nil},
		"text, with an index on lower":     {`create table users (email text); create unique index on users (lower(email))` + rows, byEmail, nil},
		"varchar, with an index on lower":  {`create table users (email varchar(255)); create unique index on users (lower(email))` + rows, byEmail, nil},
		"citext":                           {`create extension citext; create table users (email citext unique)` + rows, byEmail, nil},
		"a domain over a domain":           {`create domain address as text check (value like '%@%'); create domain contact as address; create table users (email contact unique)` + rows, byEmail, nil},
		"a collation that ignores case":    {`create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); create table users (email text collate nocase unique)` + rows, byEmail, nil},
		"a collation that does not":        {`create table users (email text collate "C" unique)` + rows, byEmail, nil},
		"a column of another name":         {`create table users (login text unique); insert into users values ('alice@x.com'), ('Bob@X.com'), ('admin')`, Config{Users: Users{ID: "login"}}, []visitor{{subject: "admin", want: "live"}, {subject: "Admin", want: "user_not_found"}}},
		"a column with a name in quotes":   {`create table users ("E-Mail" text unique); create index on users (lower("E-Mail")); insert into users values ('alice@x.com'), ('Bob@X.com')`, Config{Users: Users{ID: "E-Mail"}}, nil},
		"partitions":                       {`create table users (email text unique) partition by hash (email); create table users_0 partition of users for values with (modulus 2, remainder 0); create table users_1 partition of users for values with (modulus 2, remainder 1)` + rows, byEmail, nil},
		"a view":                           {`create table people (email text); create view users as select * from people; insert into people values ('alice@x.com'), ('Bob@X.com')`, Config{Users: Users{Table: "users", ID: "email"}}, nil},
		"a query that ignores case itself": {`create table users (email text)` + rows, Config{Query: `select email as id from users where lower(email) in (select lower(s) from unnest($1::text[]) s)`}, nil},
		"a query, citext":                  {`create schema extensions; create extension citext schema extensions; create table users (email extensions.citext)` + rows, Config{Query: `select email as id from users where email operator(extensions.=) any($1::text[]::extensions.citext[])`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, c.schema)), c.config)
			visit(t, engine(t, d, accounts.Config{Poll: -1}), append(visitors, c.visitors...)...)
		})
	}
}

func TestTheIndexOnLowerIsUsedForEmailAddresses(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (email varchar(255) primary key)`, `insert into users select 'user' || g || '@x.com' from generate_series(1, 20000) g`,
		`create index on users (lower(email))`, `analyze users`)
	d, _ := open(t, server.DSN(name), Config{Users: Users{ID: "email"}})
	if !lookup(t, d, "User7@X.com").Exists {
		t.Error("a user is not found at once")
	}
	if plan := explain(t, d, []string{"User7@X.com"}); !strings.Contains(plan, "lower") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("plan:\n%s", plan)
	}
}

// explain returns the plan of a lookup.
func explain(t *testing.T, d *Directory, ids []string) string {
	t.Helper()
	conn, err := d.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	rows, err := conn.Query(t.Context(), "explain "+d.lookups.statement.Load().sqlFor(ids, false), ids)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "\n")
}

// The operators of an extension that is in another schema are not in the search
// path.
func TestCitextIsComparedAsCitextWhateverTheSearchPath(t *testing.T) {
	t.Parallel()
	const extension = `create schema "the extensions"; create extension citext schema "the extensions"; `
	const rows = `; insert into users values ('Ada@Example.com'), ('Bob'); analyze users`
	for name, schema := range map[string]string{
		"unique":                 `create table users (id "the extensions".citext primary key)`,
		"without an index":       `create table users (id "the extensions".citext)`,
		"a domain":               `create domain login as "the extensions".citext; create table users (id login primary key)`,
		"a domain over a domain": `create domain login as "the extensions".citext; create domain member as login check (length(value) < 50); create table users (id member primary key)`,
		"partitions":             `create table users (id "the extensions".citext primary key) partition by hash (id); create table users_0 partition of users for values with (modulus 1, remainder 0)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, extension+schema+rows)
			_, reader := role(t, db, `grant select on users to %s`, `grant usage on schema "the extensions" to %s`)
			for _, dsn := range []string{server.DSN(db), reader} {
				d, _ := open(t, dsn, Config{})
				e := engine(t, d, accounts.Config{Poll: -1})
				visit(t, e, visitor{subject: "ada@example.com", want: "live"}, visitor{subject: "BOB", want: "live"}, visitor{subject: "bo", want: "user_not_found"})
				if strings.Contains(name, "index") {
					continue
				}
				run(t, db, `insert into users select 'user' || g from generate_series(1, 5000) g on conflict do nothing`, `analyze users`)
				if plan := explain(t, d, []string{"user7"}); !strings.Contains(plan, "Index") || strings.Contains(plan, "Seq Scan") {
					t.Errorf("plan:\n%s", plan)
				}
			}
		})
	}
	t.Run("without a right to its schema", func(t *testing.T) {
		t.Parallel()
		db := database(t, extension+`create table users (id "the extensions".citext primary key)`+rows)
		reader, dsn := role(t, db, `grant select on users to %s`)
		d, _ := open(t, dsn, Config{})
		unproven(t, engine(t, d, accounts.Config{Poll: -1}), "ada@example.com", `run GRANT USAGE ON SCHEMA "the extensions" TO `+reader+`,`)
	})
}

func TestIDsAreFoundHoweverTheyAreSpelled(t *testing.T) {
	t.Parallel()
	const canonical = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
	const bare = "7d4448409dc011d1b2455ffdce74fad2"
	for name, c := range map[string]struct {
		schema string
		live   []string
		gone   []string
	}{
		"uuid": {
			`create table users (id uuid primary key); insert into users values ('` + canonical + `')`,
			[]string{canonical, strings.ToUpper(canonical), bare, strings.ToUpper(bare), "{" + canonical + "}", "{" + bare + "}", "7d44-4840-9dc0-11d1-b245-5ffd-ce74-fad2"},
			[]string{canonical + "0", canonical[1:], "urn:uuid:" + canonical, "{" + canonical, canonical + "}", "7d4-44840-9dc0-11d1-b245-5ffdce74fad2", "7d444840--9dc0-11d1-b245-5ffdce74fad2", "-" + bare, bare + "-", "{}", "x"},
		},
		"a domain over uuid": {
			`create domain key as uuid; create domain user_key as key; create table users (id user_key primary key); insert into users values ('` + canonical + `')`,
			[]string{strings.ToUpper(canonical), bare},
			[]string{"x"},
		},
		"numeric(21,0)": {
			`create table users (id numeric(21,0) primary key); insert into users values (109876543210123456789)`,
			[]string{"109876543210123456789"},
			[]string{"109876543210123456788", "x", ""},
		},
		"numeric(38)": {
			`create table users (id numeric(38) primary key); insert into users values (99999999999999999999999999999999999999), (-5)`,
			[]string{"99999999999999999999999999999999999999", "-5"},
			[]string{"99999999999999999999999999999999999998", "5", "NaN", "Infinity"},
		},
		"numeric without a size": {
			`create table users (id numeric primary key); insert into users values (12345678901234567890), (1.0)`,
			[]string{"12345678901234567890", "1"},
			[]string{"2"},
		},
		"bigint": {
			`create table users (id bigint primary key); insert into users values (-9223372036854775808)`,
			[]string{"-9223372036854775808"},
			[]string{"9223372036854775808", "109876543210123456789"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, c.schema)), Config{})
			e := engine(t, d, accounts.Config{Poll: -1})
			for _, subject := range c.live {
				visit(t, e, visitor{subject: subject, want: "live"})
			}
			for _, subject := range c.gone {
				visit(t, e, visitor{subject: subject, want: "user_not_found"})
			}
		})
	}
}

// What Postgres reads as a UUID is one here, and in the same form.
func TestUUIDsAreReadAsPostgresReadsThem(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	const bare = "7D4448409dc011d1b2455ffdce74fad2"
	var spellings []string
	for at := range len(bare) + 1 {
		for _, with := range []string{"-", "--", "{", "}", " ", "g", "7"} {
			spelled := bare[:at] + with + bare[at:]
			spellings = append(spellings, spelled, "{"+spelled+"}")
		}
	}
	for _, spelled := range append(spellings, bare, "{"+bare+"}", "{"+bare, bare+"}", "{{"+bare+"}}", "") {
		var want string
		err := conn.QueryRow(t.Context(), "select $1::text::uuid::text", spelled).Scan(&want)
		got, ok := uuid.Canonical([]byte(spelled))
		if ok != (err == nil) || ok && string(got) != want {
			t.Errorf("%q is %q, %t; Postgres reads %q, %v", spelled, got, ok, want, err)
		}
	}
}

// A subject that cannot be an id of the column is looked for nowhere, unless the
// type of the column has just changed.
func TestTheTypeOfTheIDChanges(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id int primary key); insert into users values (7)`)
	d, _ := open(t, server.DSN(name), Config{})
	e := engine(t, d, accounts.Config{TTL: time.Nanosecond, Poll: -1})
	visit(t, e, visitor{subject: "7", want: "live"}, visitor{subject: "u7", want: "user_not_found"})
	run(t, name, `alter table users alter id type text using 'u' || id`)
	visit(t, e, visitor{subject: "u7", want: "live"}, visitor{subject: "7", want: "user_not_found"})
	if found, err := d.Lookup(t.Context(), []directories.Query{{Subject: []byte("u7"), Since: time.Now()}}); err != nil || !found[0].Exists {
		t.Errorf("%+v, %v", found, err)
	}
}
