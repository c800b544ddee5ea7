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
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// install installs the triggers for the users of a directory.
func install(t testing.TB, p *Postgres) {
	t.Helper()
	sql, err := p.InstallSQL(context.Background())
	if err == nil {
		err = p.Run(context.Background(), sql)
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
	for name, c := range map[string]struct {
		commands []string
		want     []string
	}{
		"a deleted user":        {[]string{`delete from "User" where id = 'u1'`}, []string{"u1"}},
		"two in one statement":  {[]string{`delete from "User" where id in ('u1', 'u2')`}, []string{"u1,u2"}},
		"nobody":                {[]string{`delete from "User" where id = 'nobody'`}, nil},
		"rolled back":           {[]string{`begin; delete from "User"; rollback`}, nil},
		"many, 50 at a time":    {[]string{`delete from "User" where n <= 120`}, []string{"20 ids", "50 ids", "50 ids"}},
		"more than a thousand":  {[]string{`delete from "User"`}, []string{"all"}},
		"truncated":             {[]string{`truncate "User" cascade`}, []string{"all"}},
		"by a cascade":          {[]string{`delete from teams`}, []string{"all"}},
		"banned":                {[]string{`update "User" set banned = true where id = 'u3'`}, []string{"u3,u3"}},
		"another id":            {[]string{`update "User" set id = 'new' where id = 'u3'`}, []string{"u3,new"}},
		"another address":       {[]string{`update "User" set email = 'x' where id = 'u3'`}, []string{"u3,u3"}},
		"the same ban again":    {[]string{`update "User" set banned = banned`}, nil},
		"last seen":             {[]string{`update "User" set seen = now()`}, nil},
		"a new user":            {[]string{`insert into "User" values ('fresh')`}, nil},
		"by a replicating role": {[]string{`set session_replication_role = replica; delete from "User" where id = 'u1'`}, []string{"u1"}},
		"an odd id":             {[]string{`insert into "User" values (e'o\'dd"\n,')`, `delete from "User" where id = e'o\'dd"\n,'`}, []string{"o'dd\"\n,"}},
		"ids too long for one":  {[]string{`insert into "User" select repeat('x', 200) || g from generate_series(1, 50) g; delete from "User" where id like 'xxx%'`}, []string{"all"}},
	} {
		t.Run(name, func(t *testing.T) {
			db := database(t, `create table teams (id int primary key); insert into teams values (1)`,
				`create table "User" (id text primary key, banned boolean, email text, seen timestamptz, n int, team int references teams on delete cascade)`,
				`insert into "User" select 'u' || g, false, 'a@b.c', null, g, 1 from generate_series(1, 1500) g`)
			p, _ := open(t, server.DSN(db), Config{Poll: -1, Users: Users{Match: []string{"email"}}})
			install(t, p)
			install(t, p) // twice does no harm
			got := notified(t, db, c.commands...)
			for i, ids := range got {
				if n := strings.Count(ids, ",") + 1; n > 2 && name != "an odd id" {
					got[i] = fmt.Sprintf("%d ids", n)
				}
			}
			slices.Sort(got)
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("notified %q, want %q", got, c.want)
			}
		})
	}
}

func TestUninstallingLeavesNoTrace(t *testing.T) {
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
	p, _ := open(t, server.DSN(name), Config{Poll: -1})
	install(t, p)
	if n := count(); n != 5 {
		t.Errorf("%d things are installed, want three triggers, a function and its schema", n)
	}
	for range 2 {
		if err := p.Run(t.Context(), UninstallSQL); err != nil {
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
	name := database(t, `create table users (id int primary key); insert into users values (1), (2)`)
	writer := "writer_of_" + name
	run(t, name, `create role `+writer, `grant select, update, delete on users to `+writer)
	p, _ := open(t, server.DSN(name), Config{Poll: -1})
	install(t, p)
	if got := notified(t, name, `set role `+writer+`; delete from users where id = 1; update users set id = 3 where id = 2`); fmt.Sprint(got) != "[1 2,3]" {
		t.Errorf("notified %q", got)
	}
}

func TestWhyTriggersCannotBeInstalled(t *testing.T) {
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
			c.config.Poll = -1
			p, _ := open(t, c.dsn, c.config)
			sql, err := p.InstallSQL(t.Context())
			if err == nil {
				err = p.Run(t.Context(), sql)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestNotificationsAreProvenAndSaid(t *testing.T) {
	name := database(t, oneUser)
	pooler := pgbouncer(t, name)
	pooled := "postgres://postgres@" + pooler + "/" + name + "?sslmode=disable"
	direct := func() (string, error) { return server.DSN(name), nil }
	for _, c := range []struct {
		title     string
		dsn       string
		listen    func() (string, error)
		installed bool
		want      hearing
		says      string
	}{
		{"no triggers", server.DSN(name), nil, false, untold, "has no triggers"},
		{"through a pooler", pooled, nil, true, swallowed, "do not arrive"},
		{"beside a pooler", pooled, direct, true, told, "are notified"},
		{"direct", server.DSN(name), nil, true, told, "are notified"},
	} {
		t.Run(c.title, func(t *testing.T) {
			p, lines := open(t, c.dsn, Config{Poll: quickly, TTL: time.Hour, ListenDSN: c.listen})
			if c.installed {
				q, _ := open(t, server.DSN(name), Config{Poll: -1})
				install(t, q)
			}
			lookup(t, p, "live")
			eventually.Holds(t, "it is found out", func() bool { return hearing(p.watch.ears.hearing.Load()) == c.want })
			if lines.FilterMessageSnippet(c.says).Len() != 1 {
				t.Errorf("logged %v", lines.All())
			}
			lookup(t, p, "live")
			run(t, name, `delete from users`)
			becomes(t, p, "live", "is gone", gone)
			run(t, name, `insert into users values ('live')`)
		})
	}
}

func TestNotificationsOfTriggersDropAccounts(t *testing.T) {
	name := database(t, `create table users (id uuid primary key); insert into users values ('7d444840-9dc0-11d1-b245-5ffdce74fad2'), ('0b6a2b7e-9dc0-11d1-b245-5ffdce74fad2')`)
	const one, other = "7D444840-9dc0-11d1-b245-5ffdce74fad2", "0b6a2b7e-9dc0-11d1-b245-5ffdce74fad2"
	p := watched(t, server.DSN(name), Config{})
	install(t, p)
	eventually.Holds(t, "changes are notified", func() bool { return p.Stats().Notified })
	for what, c := range map[string]struct {
		payload    string
		drops, all bool
	}{
		"one":              {`{"ids":["` + strings.ToLower(one) + `"]}`, true, false},
		"all":              {`{}`, true, true},
		"somebody else's":  {`{"ids":["nobody"]}`, false, false},
		"nonsense":         {`nonsense`, false, false},
		"a foreign echo":   {`{"echo":"x"}`, false, false},
		"ids of no string": {`{"ids":[7]}`, false, false},
	} {
		t.Run(what, func(t *testing.T) {
			eventually.Holds(t, "both are known", func() bool {
				lookup(t, p, one)
				lookup(t, p, other)
				var a Account
				return p.accounts.get([]byte(strings.ToLower(one)), p.now(), &a) && p.accounts.get([]byte(other), p.now(), &a)
			})
			conn := p.watch
			conn.ears.hear(nil, notificationOf(c.payload))
			var a Account
			if known := p.accounts.get([]byte(strings.ToLower(one)), p.now(), &a); known == c.drops {
				t.Errorf("the one is known: %t", known)
			}
			if known := p.accounts.get([]byte(other), p.now(), &a); known == c.all {
				t.Errorf("the other is known: %t", known)
			}
		})
	}
}

func FuzzNotification(f *testing.F) {
	for _, payload := range []string{`{}`, `{"ids":["1"]}`, `{"echo":"x"}`, `{"ids":null,"echo":""}`, "\x00", `[`, `{"ids":[{}]}`} {
		f.Add(payload)
	}
	p, _ := open(f, "postgres://nowhere/x", Config{})
	f.Fuzz(func(_ *testing.T, payload string) {
		p.watch.ears.hear(nil, notificationOf(payload))
	})
}

func notificationOf(payload string) *pgconn.Notification {
	return &pgconn.Notification{Channel: channel, Payload: payload}
}

func TestEchoesAreNoChangeToAnybody(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after string
		own           string
		others        []string
		explained     bool
	}{
		{"its own", "primary 100:100: s", "primary 101:101: s", "100", nil, true},
		{"another's", "primary 100:100: s", "primary 101:101: s", "", []string{"100"}, true},
		{"several in any order", "primary 100:100: s", "primary 103:103: s", "101", []string{"102", "100"}, true},
		{"an earlier one of another", "primary 100:100: s", "primary 101:101: s", "100", []string{"98"}, true},
		{"and a change", "primary 100:100: s", "primary 102:102: s", "100", []string{"98"}, false},
		{"a change alone", "primary 100:100: s", "primary 101:101: s", "", nil, false},
		{"a change, after an echo that was seen", "primary 101:101: s", "primary 102:102: s", "", []string{"100"}, false},
		{"another server", "primary 100:100: s", "primary 101:101: z", "100", nil, false},
		{"nonsense", "primary 100:100: s", "primary 101:101: s", "", []string{"", "x", "101"}, false},
	} {
		e := ears{others: c.others}
		if c.own != "" {
			e.by = make(chan string, 1)
			e.by <- c.own
		}
		if explained := e.explains(c.before, c.after); explained != c.explained {
			t.Errorf("%s: explained: %t", c.name, explained)
		}
		if e.by != nil || e.others != nil {
			t.Errorf("%s: it is remembered", c.name)
		}
	}
}

func TestAnEchoTellsOthersItsTransaction(t *testing.T) {
	name := database(t, oneUser)
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "listen "+channel); err != nil {
		t.Fatal(err)
	}
	watched(t, server.DSN(name), Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	heard, err := conn.WaitForNotification(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var told notification
	if err := json.Unmarshal([]byte(heard.Payload), &told); err != nil {
		t.Fatal(err)
	}
	var status *string
	if err := conn.QueryRow(t.Context(), "select pg_xact_status($1::text::xid8)", told.Transaction).Scan(&status); err != nil || status == nil || *status != "committed" {
		t.Errorf("%s: transaction %q: %v", heard.Payload, told.Transaction, err)
	}
}
