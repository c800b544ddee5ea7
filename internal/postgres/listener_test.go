package postgres

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func TestNotificationsAreTestedAndTheResultIsLogged(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	pooled := pooler(t, name)
	direct := func() (string, error) { return server.DSN(name), nil }
	for _, c := range []struct {
		title     string
		dsn       string
		listen    func() (string, error)
		installed bool
		want      listenerState
		says      string
	}{
		{"no triggers", server.DSN(name), nil, false, noTriggers, "no change triggers"},
		{"through a pooler", pooled, nil, true, blocked, "do not arrive"},
		{"past a pooler", pooled, direct, true, active, "notifications work"},
		{"direct", server.DSN(name), nil, true, active, "notifications work"},
	} {
		t.Run(c.title, func(t *testing.T) {
			d, lines := open(t, c.dsn, Config{ListenDSN: c.listen})
			if c.want == blocked { // an echo is received if it arrives while the watch has the right connection to the server
				d.echoEvery = 3 * time.Second
			}
			if c.installed {
				owner, _ := open(t, server.DSN(name), Config{})
				install(t, owner)
			}
			e := watched(t, d, accounts.Config{Poll: quickly})
			if _, _, err := ask(e, "live", time.Time{}); err != nil {
				t.Fatal(err)
			}
			eventually.Holds(t, "the listener knows", func() bool { return listenerState(d.state.Load()) == c.want })
			if lines.FilterMessageSnippet(c.says).Len() != 1 {
				t.Errorf("logged %v", lines.All())
			}
			if notified := d.Describe().Notified; notified != (c.want == active) {
				t.Errorf("notified: %t", notified)
			}
			if account, _, err := ask(e, "live", time.Time{}); err != nil || !account.Exists {
				t.Fatalf("%+v, %v", account, err)
			}
			run(t, name, `delete from users`)
			eventually.Holds(t, "the user is gone", func() bool {
				account, _, err := ask(e, "live", time.Time{})
				return err == nil && !account.Exists
			})
			run(t, name, `insert into users values ('live')`)
		})
	}
}

// So whoever sees the state finds the line.
func TestTheListenerLogsBeforeItsStateChanges(t *testing.T) {
	t.Parallel()
	for _, want := range []listenerState{blocked, noTriggers, active} {
		d, _ := open(t, "postgres://nowhere/x", Config{})
		var logged []listenerState
		logger := d.log().WithOptions(zap.Hooks(func(zapcore.Entry) error {
			logged = append(logged, listenerState(d.state.Load()))
			return nil
		}))
		d.config.Logger = func() *zap.Logger { return logger }
		l := listener{w: &watch{d: d}, received: want != blocked, known: true, triggers: want == active}
		l.conclude()
		l.conclude() // which changes nothing
		if len(logged) != 1 || logged[0] != unknown {
			t.Errorf("states when a line was logged: %v", logged)
		}
		if state := listenerState(d.state.Load()); state != want {
			t.Errorf("state %d, want %d", state, want)
		}
	}
}

// The gate is read once an hour, so that it shows no change.
func TestNotificationsOfTriggersDropAccounts(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id uuid primary key); insert into users values ('7d444840-9dc0-11d1-b245-5ffdce74fad2'), ('0b6a2b7e-9dc0-11d1-b245-5ffdce74fad2')`)
	const one, other = "7D444840-9dc0-11d1-b245-5ffdce74fad2", "0b6a2b7e-9dc0-11d1-b245-5ffdce74fad2"
	d, _ := open(t, server.DSN(name), Config{})
	install(t, d)
	e := watched(t, d, accounts.Config{Poll: time.Hour})
	eventually.Holds(t, "changes are notified", func() bool { return e.Stats().Notified })
	source := func(t *testing.T, subject string) accounts.Source {
		t.Helper()
		account, source, err := ask(e, subject, time.Time{})
		if err != nil || !account.Exists {
			t.Fatalf("%s: %+v, %v", subject, account, err)
		}
		return source
	}
	for what, c := range map[string]struct {
		payload              string
		reports, drops, both bool
	}{
		"one":              {`{"ids":["` + strings.ToLower(one) + `"]}`, true, true, false},
		"all":              {`{}`, true, true, true},
		"somebody else's":  {`{"ids":["nobody"]}`, true, false, false},
		"nonsense":         {`nonsense`, false, false, false},
		"a foreign echo":   {`{"echo":"x"}`, false, false, false},
		"another table":    {`{"others":true}`, false, false, false},
		"ids of no string": {`{"ids":[7]}`, false, false, false},
	} {
		t.Run(what, func(t *testing.T) {
			for _, subject := range []string{one, other} {
				source(t, subject)
				if from := source(t, subject); from != accounts.FromCache {
					t.Fatalf("%s is not cached: %s", subject, from)
				}
			}
			want := e.Stats().Notifications + 1
			if c.reports {
				want++
			}
			run(t, name, `notify `+channel+`, '`+c.payload+`'`, `notify `+channel+`, '{"ids":["the end"]}'`)
			eventually.Holds(t, "both notifications are read", func() bool { return e.Stats().Notifications == want })
			if dropped := source(t, one) != accounts.FromCache; dropped != c.drops {
				t.Errorf("the one is dropped: %t", dropped)
			}
			if dropped := source(t, other) != accounts.FromCache; dropped != c.both {
				t.Errorf("the other is dropped: %t", dropped)
			}
		})
	}
	run(t, name, `delete from users where id = '`+one+`'`)
	eventually.Holds(t, "the deleted user is gone", func() bool {
		account, _, err := ask(e, one, time.Time{})
		return err == nil && !account.Exists
	})
	if from := source(t, other); from != accounts.FromCache {
		t.Errorf("the other is dropped")
	}
}

func FuzzNotification(f *testing.F) {
	for _, payload := range []string{`{}`, `{"ids":["1"]}`, `{"echo":"x"}`, `{"ids":null,"echo":""}`, "\x00", `[`, `{"ids":[{}]}`, `{"others":true}`} {
		f.Add(payload)
	}
	d, _ := open(f, "postgres://nowhere/x", Config{})
	l := listener{w: &watch{d: d, changed: func(...string) {}}}
	f.Fuzz(func(_ *testing.T, payload string) {
		l.receive(nil, &pgconn.Notification{Channel: channel, Payload: payload})
	})
}

func TestEchoesAreNoChange(t *testing.T) {
	t.Parallel()
	forged := func(transactions ...string) (payloads []string) {
		for _, transaction := range transactions {
			payloads = append(payloads, `{"echo":"x","transaction":"`+transaction+`"}`)
		}
		return payloads
	}
	own := func(transactions ...string) (payloads []string) {
		for _, transaction := range transactions {
			payloads = append(payloads, `{"echo":"own","transaction":"`+transaction+`"}`)
		}
		return payloads
	}
	for _, c := range []struct {
		name          string
		before, after string
		own           string
		received      []string // from whoever may notify
		explained     bool
	}{
		{"its own", "primary 100:100: s", "primary 101:101: s", "100", nil, true},
		{"its own, beside those of others that changed nothing", "primary 100:100: s", "primary 101:101: s", "100", forged("98", "99"), true},
		{"another's, which nothing proves", "primary 100:100: s", "primary 101:101: s", "", forged("100"), false},
		{"a change that somebody calls an echo before it happens", "primary 100:100: s", "primary 101:101: s", "", forged("98", "99", "100", "101", "102"), false},
		{"its own and a change that somebody calls an echo", "primary 100:100: s", "primary 102:102: s", "100", forged("101"), false},
		{"its own, which has not returned yet", "primary 100:100: s", "primary 101:101: s", "", own("100"), true},
		{"a change, by who has heard its own", "primary 101:101: s", "primary 102:102: s", "", append(own("100"), own("101", "102")...), false},
		{"and a change", "primary 100:100: s", "primary 102:102: s", "100", nil, false},
		{"a change alone", "primary 100:100: s", "primary 101:101: s", "", nil, false},
		{"another server", "primary 100:100: s", "primary 101:101: z", "100", nil, false},
		{"nonsense", "primary 100:100: s", "primary 101:101: s", "x", nil, false},
		{"an echo that failed", "primary 100:100: s", "primary 101:101: s", " ", nil, false},
	} {
		d, _ := open(t, "postgres://nowhere/x", Config{})
		l := listener{w: &watch{d: d, changed: func(...string) {}}, echo: "own"}
		if c.own != "" {
			l.own = make(chan string, 1)
			l.own <- strings.TrimSpace(c.own)
		}
		for _, payload := range c.received {
			l.receive(nil, &pgconn.Notification{Channel: channel, Payload: payload})
		}
		if explained := l.explains(c.before, c.after); explained != c.explained {
			t.Errorf("%s: explained: %t", c.name, explained)
		}
		if l.own != nil {
			t.Errorf("%s: it is remembered", c.name)
		}
	}
}

// A notification is cheap to send: however many users it names, it costs no more
// than one of the triggers.
func TestANotificationNamesFewUsers(t *testing.T) {
	t.Parallel()
	for ids, want := range map[int]int{0: 0, 1: 1, maxIDs: maxIDs, maxIDs + 1: 0, 1900: 0} {
		payload, err := json.Marshal(notification{IDs: make([]string, ids)})
		if err != nil || len(payload) >= 8000 {
			t.Fatal(len(payload), err)
		}
		dropped := -1
		l := listener{w: &watch{changed: func(subjects ...string) { dropped = len(subjects) }}}
		l.receive(nil, &pgconn.Notification{Channel: channel, Payload: string(payload)})
		if dropped != want { // 0: all are looked up again when somebody asks for them
			t.Errorf("%d ids drop %d accounts, want %d", ids, dropped, want)
		}
	}
}

func TestTheGateAfterATransaction(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ gate, transaction, want string }{
		{"primary 100:100: 2026-11-23 10:00:00+00", "100", "primary 101:101: 2026-11-23 10:00:00+00"},
		{"primary 90:100:90,95 2026-11-23", "100", "primary 90:101:90,95 2026-11-23"},
		{"primary 100:100: 2026", "101", ""}, // another one came first
		{"primary 100:100: 2026", "", ""},
		{"standby 0/3000060 2026", "100", ""},
		{"", "1", ""},
	} {
		if got := withTransaction(c.gate, c.transaction); got != c.want {
			t.Errorf("after %s, %q is %q, want %q", c.transaction, c.gate, got, c.want)
		}
	}
}

func TestAnEchoNamesItsTransaction(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	conn, err := pgx.Connect(t.Context(), server.DSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "listen "+channel); err != nil {
		t.Fatal(err)
	}
	d, _ := open(t, server.DSN(name), Config{})
	watched(t, d, accounts.Config{Poll: quickly})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	received, err := conn.WaitForNotification(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var message notification
	if err := json.Unmarshal([]byte(received.Payload), &message); err != nil {
		t.Fatal(err)
	}
	var status *string
	if err := conn.QueryRow(t.Context(), "select pg_xact_status($1::text::xid8)", message.Transaction).Scan(&status); err != nil || status == nil || *status != "committed" {
		t.Errorf("%s: transaction %q: %v", received.Payload, message.Transaction, err)
	}
}
