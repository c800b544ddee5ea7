package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// install installs the triggers for the users of a directory.
func install(t testing.TB, d *Directory) {
	t.Helper()
	sql, err := d.InstallSQL(t.Context())
	if err == nil {
		err = d.Run(t.Context(), sql)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// notified runs commands, and returns what they notify: the ids of each
// notification, "all" for one of all.
func notified(t testing.TB, name string, commands ...string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "listen "+channel); err != nil {
		t.Fatal(err)
	}
	run(t, name, commands...)
	run(t, name, "notify "+channel+", 'end'")
	var got []string
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		n, err := conn.WaitForNotification(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if n.Payload == "end" {
			return got
		}
		var payload notification
		if err := json.Unmarshal([]byte(n.Payload), &payload); err != nil {
			t.Fatalf("%q: %v", n.Payload, err)
		}
		if len(payload.IDs) == 0 {
			got = append(got, "all")
		} else {
			got = append(got, strings.Join(payload.IDs, ","))
		}
	}
}

func TestWhatTheTriggersNotify(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		commands []string
		want     []string
	}{
		"a deleted user":         {[]string{`delete from "User" where id = 'u1'`}, []string{"u1"}},
		"two in one statement":   {[]string{`delete from "User" where id in ('u1', 'u2')`}, []string{"u1", "u2"}},
		"nobody":                 {[]string{`delete from "User" where id = 'nobody'`}, nil},
		"rolled back":            {[]string{`begin; delete from "User"; rollback`}, nil},
		"as many as are named":   {[]string{`delete from "User" where n <= 1000`}, []string{"1000 users"}},
		"more than a thousand":   {[]string{`delete from "User"`}, []string{"all"}},
		"truncated":              {[]string{`truncate "User" cascade`}, []string{"all"}},
		"by a cascade":           {[]string{`delete from teams`}, []string{"all"}},
		"banned":                 {[]string{`update "User" set banned = true where id = 'u3'`}, []string{"u3,u3"}},
		"another id":             {[]string{`update "User" set id = 'new' where id = 'u3'`}, []string{"u3,new"}},
		"another address":        {[]string{`update "User" set email = 'x' where id = 'u3'`}, []string{"u3,u3"}},
		"the same ban again":     {[]string{`update "User" set banned = banned`}, nil},
		"last seen":              {[]string{`update "User" set seen = now()`}, nil},
		"a new user":             {[]string{`insert into "User" values ('fresh')`}, nil},
		"by a replicating role":  {[]string{`set session_replication_role = replica; delete from "User" where id = 'u1'`}, []string{"u1"}},
		"an odd id":              {[]string{`insert into "User" values (e'o\'dd"\n,')`, `delete from "User" where id = e'o\'dd"\n,'`}, []string{"o'dd\"\n,"}},
		"an id that is too long": {[]string{`insert into "User" values (repeat('x', 9000))`, `delete from "User" where length(id) > 8000`}, []string{"all"}},
		"more bans than named":   {[]string{`update "User" set banned = true`}, []string{"1000 users"}}, // the gate shows the others
		"a JSON string of zero":  {[]string{`update "User" set extra = '{"a":"\u0000"}' where id = 'u1'`, `delete from "User" where id = 'u1'`}, []string{"u1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := database(t, `create table teams (id int primary key); insert into teams values (1)`,
				`create table "User" (id text primary key, banned boolean, email text, seen timestamptz, extra json, n int, team int references teams on delete cascade)`,
				`insert into "User" select 'u' || g, false, 'a@b.c', null, null, g, 1 from generate_series(1, 1500) g`)
			d, _ := open(t, server.DSN(db), Config{Users: Users{Match: map[string]string{"email": "email"}}})
			install(t, d)
			install(t, d) // twice does no harm
			got := notified(t, db, c.commands...)
			slices.Sort(got)
			if n := len(got); n > 2 {
				got = []string{fmt.Sprintf("%d users", n)}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("notified %q, want %q", got, c.want)
			}
		})
	}
}

func TestUninstallingLeavesNoTrace(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id int primary key); insert into users values (1), (2)`)
	traces := `select (select count(*) from pg_trigger where tgname like 'stale_session%') + (select count(*) from pg_namespace where nspname = 'stale_session') + (select count(*) from pg_proc where pronamespace::regnamespace::text = 'stale_session')`
	count := func() (n int) {
		conn, err := pgx.Connect(t.Context(), server.DSN(name))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if err := conn.QueryRow(t.Context(), traces).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	d, _ := open(t, server.DSN(name), Config{})
	install(t, d)
	if n := count(); n != 5 {
		t.Errorf("%d things are installed, want three triggers, a function and its schema", n)
	}
	for range 2 {
		if err := d.Run(t.Context(), UninstallSQL); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(); n != 0 {
		t.Errorf("%d things are left", n)
	}
	if got := notified(t, name, `delete from users where id = 1`); len(got) > 0 {
		t.Errorf("notified %q", got)
	}
}

func TestAWriterNeedsNoRightsForTheTriggers(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id int primary key); insert into users values (1), (2)`)
	writer := "writer_of_" + name
	run(t, name, `create role `+writer, `grant select, update, delete on users to `+writer)
	d, _ := open(t, server.DSN(name), Config{})
	install(t, d)
	if got := notified(t, name, `set role `+writer+`; delete from users where id = 1; update users set id = 3 where id = 2`); fmt.Sprint(got) != "[1 2,3]" {
		t.Errorf("notified %q", got)
	}
}

func TestWhyTriggersCannotBeInstalled(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id int primary key); create view people as select * from users`)
	reader := "reader_of_" + name
	run(t, name, `create role `+reader+` login`, `grant select on users to `+reader)
	for what, c := range map[string]struct {
		dsn    string
		config Config
		says   string
	}{
		"a role that only reads": {strings.Replace(server.DSN(name), "postgres@", reader+"@", 1), Config{}, "owner of the users table"},
		"a view":                 {server.DSN(name), Config{Users: Users{Table: "people"}}, "the one behind the view"},
		"a query":                {server.DSN(name), Config{Query: "select id from users where id = any($1::text[]::int[])"}, "names no table"},
		"no table":               {server.DSN("postgres"), Config{}, "no users table"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, c.dsn, c.config)
			sql, err := d.InstallSQL(t.Context())
			if err == nil {
				err = d.Run(t.Context(), sql)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}
