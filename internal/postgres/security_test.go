package postgres

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

// major returns the major version of the server.
func major(t testing.TB) int {
	t.Helper()
	d, _ := open(t, server.DSN("postgres"), Config{})
	var version int
	if err := d.pool.QueryRow(t.Context(), "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version / 10000
}

func TestRowsThatAPolicyHidesAreNotGone(t *testing.T) {
	t.Parallel()
	// Each has the users "shown", and "hidden", unless the policy shows all.
	const users = `create table users (id text primary key, tenant int); insert into users values ('shown', 1), ('hidden', 2);`
	const secured = users + `alter table users enable row level security;`
	const tenant = `create policy tenant on users using (tenant = 1)`
	named := Users{Table: "users"}
	for name, c := range map[string]struct {
		schema   string
		commands []string // with %s for the role
		users    Users
		query    string
		proven   bool
		says     string // with %s for the role
		version  int    // of Postgres
	}{
		"a policy of a tenant": {
			schema: secured + tenant, says: `CREATE POLICY stale_session ON public.users FOR SELECT TO "%s" USING (true)`,
		},
		"no policy": {schema: secured + `insert into users values ('x')`, says: `ALTER ROLE "%s" BYPASSRLS`},
		"a policy that is true": {
			schema: secured + `create policy everything on users using (true)`, proven: true,
		},
		"a policy that is true, for the role alone": {
			schema: secured + tenant, commands: []string{`create policy reads on users for select to %s using (true)`}, proven: true,
		},
		"a policy that is true, for a group of the role": {
			schema: secured + tenant, commands: []string{`create role group_of_%s`, `grant group_of_%s to %s`, `create policy reads on users for select to group_of_%s using (true)`}, proven: true,
		},
		"a policy that is true, for somebody else": {
			schema: secured + tenant, commands: []string{`create role other_than_%s`, `create policy reads on users for select to other_than_%s using (true)`}, says: "BYPASSRLS",
		},
		"a policy that is true, for what is written": {
			schema: secured + tenant + `; create policy writes on users for update using (true)`, says: "BYPASSRLS",
		},
		"a restrictive policy besides": {
			schema: secured + `create policy everything on users using (true); create policy one on users as restrictive using (tenant = 1)`, says: "BYPASSRLS",
		},
		"a role that bypasses it": {
			schema: secured + tenant, commands: []string{`alter role %s bypassrls`}, proven: true,
		},
		"a role that has set row_security off itself": {
			schema: secured + tenant, commands: []string{`alter role %s set row_security = off`}, says: "BYPASSRLS",
		},
		"the owner": {
			schema: secured + tenant, commands: []string{`alter table users owner to %s`}, proven: true,
		},
		"the owner, forced": {
			schema: secured + tenant + `; alter table users force row level security`, commands: []string{`alter table users owner to %s`}, says: "BYPASSRLS",
		},
		"a view of its owner": {
			schema: users + `alter table users rename to people; alter table people enable row level security; create view users as select * from people`, users: named, proven: true,
		},
		"a view whose owner is subject to it": {
			schema: users + `alter table users rename to people; alter table people enable row level security; alter table people force row level security;
				create policy tenant on people using (tenant = 1); create view users as select * from people`,
			commands: []string{`create role owner_for_%s`, `alter table people owner to owner_for_%s`, `alter view users owner to owner_for_%s`}, users: named, says: "public.people",
		},
		"a view that asks as the role does": {
			schema: users + `alter table users rename to people; alter table people enable row level security; create policy tenant on people using (tenant = 1);
				create view users with (security_invoker) as select * from people`,
			commands: []string{`grant select on people to %s`}, users: named, says: `CREATE POLICY stale_session ON public.people FOR SELECT TO "%s"`, version: 15,
		},
		"a view that asks as the role does, which sees all": {
			schema: users + `alter table users rename to people; alter table people enable row level security; create policy tenant on people using (true);
				create view users with (security_invoker) as select * from people`,
			commands: []string{`grant select on people to %s`}, users: named, proven: true, version: 15,
		},
		"partitions": {
			schema: `create table users (id text primary key, tenant int) partition by hash (id); create table users_0 partition of users for values with (modulus 1, remainder 0);
				insert into users values ('shown', 1), ('hidden', 2); alter table users enable row level security; ` + tenant, says: "BYPASSRLS",
		},
		"a partition alone, which does not count": {
			schema: `create table users (id text primary key, tenant int) partition by hash (id); create table users_0 partition of users for values with (modulus 1, remainder 0);
				insert into users values ('shown', 1), ('hidden', 2); alter table users_0 enable row level security`, proven: true,
		},
		"partitions with a policy that is true": {
			schema: `create table users (id text primary key, tenant int) partition by hash (id); create table users_0 partition of users for values with (modulus 1, remainder 0);
				insert into users values ('shown', 1), ('hidden', 2); alter table users enable row level security; alter table users_0 enable row level security; create policy everything on users using (true)`, proven: true,
		},
		"a query": {
			schema: secured + tenant, query: `select id from users where id = any($1::text[])`, says: "ALTER ROLE \"%s\" BYPASSRLS",
		},
		"a query without it": {
			schema: users, query: `select id from users where id = any($1::text[])`, proven: true,
		},
		"a name in quotes": {
			schema: `create schema "my app"; create table "my app"."The Users" (id text primary key, tenant int); insert into "my app"."The Users" values ('shown', 1), ('hidden', 2);
				alter table "my app"."The Users" enable row level security; create policy tenant on "my app"."The Users" using (tenant = 1)`,
			commands: []string{`grant usage on schema "my app" to %s`, `grant select on "my app"."The Users" to %s`}, users: Users{Table: `"my app"."The Users"`},
			says: `CREATE POLICY stale_session ON "my app"."The Users" FOR SELECT TO "%s" USING (true)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if version := major(t); version < c.version {
				t.Skipf("Postgres %d has no such views", version)
			}
			db := database(t, c.schema)
			commands := c.commands
			if c.users.Table != `"my app"."The Users"` {
				commands = append([]string{`grant select on users to %s`}, commands...)
			}
			reader, dsn := role(t, db, commands...)
			d, _ := open(t, dsn, Config{Users: c.users, Query: c.query})
			e := engine(t, d, accounts.Config{Poll: -1})
			if c.proven {
				visit(t, e, visitor{subject: "shown", want: "live"}, visitor{subject: "hidden", want: "live"}, visitor{subject: "gone", want: "user_not_found"})
				return
			}
			says := strings.ReplaceAll(c.says, "%s", reader)
			unproven(t, e, "hidden", "row-level security hides rows", says)
			unproven(t, e, "gone", says)
		})
	}
}

// Behind a pooler too, which gives the next statement another connection.
func TestRowsThatAPolicyHidesAreNotGoneBehindAPooler(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser, `alter table users enable row level security`)
	reader, _ := role(t, name, `grant select on users to %s`)
	p, err := server.PoolerAs(t.Context(), name, reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	d, _ := open(t, p.DSN(), Config{})
	e := engine(t, d, accounts.Config{Poll: -1})
	for range 10 {
		unproven(t, e, "live", "BYPASSRLS")
	}
	run(t, name, `alter role `+reader+` set row_security = off`, `select pg_terminate_backend(pid) from pg_stat_activity where usename = '`+reader+`'`)
	unproven(t, e, "live", "BYPASSRLS")
	run(t, name, `alter role `+reader+` reset row_security`, `select pg_terminate_backend(pid) from pg_stat_activity where usename = '`+reader+`'`, `create policy everything on users using (true)`)
	visit(t, e, visitor{subject: "live", want: "live"}, visitor{subject: "gone", want: "user_not_found"})
}

// Whoever switches it on, or takes the policy away, ends nobody.
func TestRowLevelSecurityThatIsSwitchedOnEndsNobody(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	_, dsn := role(t, name, `grant select on users to %s`)
	d, _ := open(t, dsn, Config{})
	e := engine(t, d, accounts.Config{Poll: -1, TTL: time.Nanosecond}) // nothing is cached
	visit(t, e, visitor{subject: "live", want: "live"}, visitor{subject: "gone", want: "user_not_found"})
	run(t, name, `alter table users enable row level security; create policy one on users using (id = 'live')`)
	unproven(t, e, "gone", "BYPASSRLS")
	visit(t, e, visitor{subject: "live", want: "live"})
	if says := e.Stats().Failure; !strings.Contains(says, "BYPASSRLS") {
		t.Errorf("the state says %q, while nothing but absences is unknown", says)
	}
	run(t, name, `create policy everything on users using (true)`)
	visit(t, e, visitor{subject: "live", want: "live"}, visitor{subject: "gone", want: "user_not_found"})
	if says := e.Stats().Failure; says != "" {
		t.Errorf("the state says %q, although an absence was proven", says)
	}
	run(t, name, `drop policy everything on users; drop policy one on users`)
	unproven(t, e, "gone", "BYPASSRLS")
	run(t, name, `alter table users disable row level security`)
	visit(t, e, visitor{subject: "gone", want: "user_not_found"})
}

// TestRowLevelSecurityThatIsSwitchedEndsNobodyMeanwhile switches it on and off, while a
// user who is there is looked up.
func TestRowLevelSecurityThatIsSwitchedEndsNobodyMeanwhile(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	_, dsn := role(t, name, `grant select on users to %s`)
	d, _ := open(t, dsn, Config{})
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	ctx, stop := context.WithCancel(t.Context())
	var switching sync.WaitGroup
	switching.Go(func() {
		for on := true; ctx.Err() == nil; on = !on {
			if _, err := conn.Exec(t.Context(), map[bool]string{true: `alter table users enable row level security`, false: `alter table users disable row level security`}[on]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	known := 0
	for range 2000 {
		found, err := d.Lookup(t.Context(), []directories.Query{{Subject: []byte("live"), Since: time.Now()}})
		if err != nil || found[0].Failure != nil {
			continue
		}
		if known++; !found[0].Exists {
			t.Error("it is proven that a user is gone who is there")
			break
		}
	}
	stop()
	switching.Wait()
	if known == 0 {
		t.Error("nothing was ever known")
	}
}
