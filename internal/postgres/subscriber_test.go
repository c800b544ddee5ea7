package postgres

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// subscribed starts a server, and another one that subscribes to a table of it.
func subscribed(t *testing.T, schema, publish string) (publisher, subscriber *pgtest.Server) {
	t.Helper()
	publisher, subscriber = ownServer(t, "wal_level=logical"), ownServer(t)
	execute(t, publisher, schema, `create publication changes for table `+publish)
	host, port, err := net.SplitHostPort(publisher.Address())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, subscriber, `truncate users`, schema, `create subscription changes connection 'host=`+host+` port=`+port+` user=postgres dbname=postgres' publication changes`)
	t.Cleanup(func() { // or the publisher waits for it
		_ = subscriber.Close()
	})
	return publisher, subscriber
}

// A subscriber is no standby, but lags like one: nothing shows by how much.
func TestWhatALogicalSubscriberSaysEndsNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema, publish string
		users           Users
	}{
		"a table": {`alter table users add banned boolean not null default false`, "users", Users{}},
		"a view of it": {
			`alter table users add banned boolean not null default false; create view members as select * from users`, "users", Users{Table: "members"},
		},
		"a partition": {
			`drop table users; create table users (id text primary key, banned boolean not null default false) partition by hash (id); create table users_0 partition of users for values with (modulus 1, remainder 0)`, "users_0", Users{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			publisher, subscriber := subscribed(t, c.schema, c.publish)
			execute(t, publisher, `insert into users values ('ada', false), ('banned', true)`)
			execute(t, subscriber, `create role reader login`, `grant select on all tables in schema public to reader`)
			d, _ := open(t, strings.Replace(subscriber.DSN("postgres"), "postgres@", "reader@", 1), Config{Users: c.users})
			e := engine(t, d, accounts.Config{TTL: time.Nanosecond}) // nothing is cached
			eventually.Holds(t, "the users are there", func() bool {
				account, _, err := ask(e, "banned", time.Time{})
				return err == nil && account.Exists
			})
			visit(t, e, visitor{subject: "ada", want: "live"}, visitor{subject: "banned", want: "unknown"})
			unproven(t, e, "signed up just now", "logical replication", "the app's own database")
			execute(t, subscriber, `alter subscription changes disable`)
			execute(t, publisher, `insert into users values ('later')`, `update users set banned = false`)
			unproven(t, e, "later", "logical replication")
			visit(t, e, visitor{subject: "banned", want: "unknown"})
			// Once it is a database of its own, it proves what it says.
			execute(t, subscriber, `alter subscription changes set (slot_name = none)`, `drop subscription changes`)
			again, _ := open(t, subscriber.DSN("postgres"), Config{Users: c.users})
			visit(t, engine(t, again, accounts.Config{Poll: -1}), visitor{subject: "later", want: "user_not_found"}, visitor{subject: "banned", want: "user_disabled"})
		})
	}
}
