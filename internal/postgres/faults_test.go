package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// ownServer starts a server that the test may end.
func ownServer(t testing.TB, settings ...string) *pgtest.Server {
	t.Helper()
	s, err := pgtest.Start(context.Background(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

const oneUser = `create table users (id text primary key); insert into users values ('live')`

func TestFailuresSayWhatToDo(t *testing.T) {
	name := database(t, oneUser)
	reader := "reader_of_" + name // roles belong to the whole server
	run(t, name, `create role `+reader+` login password 'hunter2'`)
	t.Run("no rights", func(t *testing.T) {
		p, _ := open(t, strings.Replace(server.DSN(name), "postgres@", reader+":hunter2@", 1), Config{})
		if e := failure(t, p, "live"); e.Class != Rights || !strings.Contains(e.Error(), "GRANT") {
			t.Errorf("%v", e)
		}
		run(t, name, `grant select (id) on users to `+reader, `alter table users add column "deletedAt" timestamptz`)
		if !lookup(t, p, "live").Exists {
			t.Error("the id alone is enough")
		}
	})
	t.Run("no such database", func(t *testing.T) {
		p, _ := open(t, server.DSN("nowhere"), Config{})
		if e := failure(t, p, "live"); e.Class != Refused || e.Code != "3D000" {
			t.Errorf("%v", e)
		}
	})
	t.Run("a pooler refuses the user", func(t *testing.T) {
		p, _ := open(t, strings.Replace(server.DSN(name), "postgres@", "stranger:hunter2@", 1), Config{})
		if e := failure(t, p, "live"); e.Class != Refused || strings.Contains(e.Error(), "hunter2") {
			t.Errorf("%v", e)
		}
	})
	t.Run("too many connections", func(t *testing.T) {
		run(t, "postgres", `alter role `+reader+` connection limit 0`)
		p, _ := open(t, strings.Replace(server.DSN(name), "postgres@", reader+":hunter2@", 1), Config{})
		if e := failure(t, p, "live"); e.Class != Down || e.Code != "53300" || !strings.Contains(e.Error(), "max_connections") {
			t.Errorf("%v", e)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		listener.Close()
		p, lines := open(t, "postgres://u:hunter2@"+address+"/d?sslmode=disable", Config{})
		if e := failure(t, p, "live"); e.Class != Down || !strings.Contains(e.Error(), address) {
			t.Errorf("%v", e)
		}
		for _, line := range lines.All() {
			if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "hunter2") {
				t.Errorf("the password is in the log: %s", text)
			}
		}
	})
	t.Run("a black hole", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		p, _ := open(t, "postgres://u@"+listener.Addr().String()+"/d?sslmode=disable", Config{Timeout: 30 * time.Millisecond})
		if e := failure(t, p, "live"); e.Class != Slow {
			t.Errorf("%v", e)
		}
	})
}

func TestAStandbyProvesNoAbsence(t *testing.T) {
	primary := ownServer(t, "wal_level=replica", "max_wal_senders=4")
	if err := primary.Exec(t.Context(), "postgres", oneUser); err != nil {
		t.Fatal(err)
	}
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { standby.Close() })
	p, _ := open(t, standby.DSN("postgres"), Config{})
	eventually.Holds(t, "the user is on the standby", func() bool {
		account, _, err := ask(p, "live", time.Time{})
		return err == nil && account.Exists
	})
	unsure := func(since time.Time) bool {
		account, _, err := ask(p, "gone", since)
		var e *Error
		if err == nil && account.Exists || err != nil && (!errors.As(err, &e) || e.Class != Standby || !strings.Contains(e.Error(), "primary")) {
			t.Fatalf("%+v, %v", account, err)
		}
		return err != nil
	}
	signedIn := time.Now()
	if !unsure(signedIn) {
		t.Error("a user who signed in just now may be unknown to the standby yet")
	}
	eventually.Holds(t, "the standby hears of a later change, so it would know the user", func() bool {
		if err := primary.Exec(context.Background(), "postgres", `create table if not exists later ()`, `drop table later`); err != nil {
			t.Fatal(err)
		}
		return !unsure(signedIn)
	})
	if err := standby.Exec(t.Context(), "postgres", `select pg_promote()`); err != nil {
		t.Fatal(err)
	}
	if lookup(t, p, "gone").Exists {
		t.Error("an absent user was found")
	}
}

func TestWhatAStandbyDoesNotKnowIsConfirmedOnThePrimary(t *testing.T) {
	primary := ownServer(t, "wal_level=replica", "max_wal_senders=4")
	if err := primary.Exec(t.Context(), "postgres", oneUser, `alter table users add banned boolean not null default true`); err != nil {
		t.Fatal(err)
	}
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { standby.Close() })
	p, _ := open(t, "postgres://postgres@"+standby.Address()+","+primary.Address()+"/postgres?sslmode=disable", Config{Poll: quickly})
	p.config.TTL = time.Nanosecond // nothing is remembered
	if !lookup(t, p, "live").Exists {
		t.Error("the user was not found")
	}
	if err := standby.Exec(t.Context(), "postgres", `select pg_wal_replay_pause()`); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the standby has paused", func() bool {
		return standby.Exec(t.Context(), "postgres", `do $$ begin assert pg_get_wal_replay_pause_state() = 'paused'; end $$`) == nil
	})
	if err := primary.Exec(t.Context(), "postgres", `insert into users values ('fresh')`); err != nil {
		t.Fatal(err)
	}
	if !lookup(t, p, "fresh").Exists {
		t.Error("a user whom only the primary knows was not found")
	}
	// What the standby still says of somebody is no proof against a new session.
	if err := primary.Exec(t.Context(), "postgres", `update users set banned = false`); err != nil {
		t.Fatal(err)
	}
	if account := lookup(t, p, "live"); !account.Disabled || !account.AsOf.IsZero() {
		t.Errorf("as the standby knows him: %+v", account)
	}
	if account, source, err := ask(p, "live", time.Now()); err != nil || source != FromDatabase || account.Disabled || account.standby {
		t.Errorf("as the primary does: %+v, %s, %v", account, source, err)
	}
	if account := lookup(t, p, "gone"); account.Exists || account.standby {
		t.Errorf("a user whom nobody knows: %+v", account)
	}
	if err := primary.Stop(); err != nil {
		t.Fatal(err)
	}
	account, _, err := ask(p, "unheard of", time.Now())
	var e *Error
	if !errors.As(err, &e) || e.Class != Standby {
		t.Errorf("without a primary: %+v, %v", account, err)
	}
}

func TestAPasswordThatChangesIsReadAgain(t *testing.T) {
	s := ownServer(t)
	hba := filepath.Join(filepath.Dir(s.LogFile()), "data", "pg_hba.conf")
	if err := s.Exec(t.Context(), "postgres", oneUser, `create role app login password 'first'`, `grant select on users to app`); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hba, []byte("host all postgres all trust\nhost all all all scram-sha-256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Exec(t.Context(), "postgres", `select pg_reload_conf()`); err != nil {
		t.Fatal(err)
	}
	var password atomic.Value
	password.Store("first")
	p, _ := open(t, "", Config{TTL: time.Nanosecond, DSN: func() (string, error) {
		return "postgres://app:" + password.Load().(string) + "@" + s.Address() + "/postgres?sslmode=disable", nil
	}})
	lookup(t, p, "live")
	if err := s.Exec(t.Context(), "postgres", `alter role app password 'second'`); err != nil {
		t.Fatal(err)
	}
	p.pool.Reset()
	if _, source, err := ask(p, "live", time.Time{}); err != nil || source != FromFallback {
		t.Errorf("with the old password: %s, %v", source, err)
	}
	password.Store("second")
	eventually.Holds(t, "the new password is used", func() bool {
		_, source, err := ask(p, "live", time.Time{})
		return err == nil && source == FromDatabase
	})
}

func TestThroughATransactionPooler(t *testing.T) {
	name := database(t, oneUser)
	address := pgbouncer(t, name)
	for title, parameters := range map[string]string{"said": "&pgbouncer=true", "found out": ""} {
		t.Run(title, func(t *testing.T) {
			p, _ := open(t, "postgres://postgres@"+address+"/"+name+"?sslmode=disable"+parameters, Config{TTL: time.Nanosecond})
			for range 20 {
				var all sync.WaitGroup
				for i := range 5 {
					all.Go(func() {
						if account, _, err := ask(p, "live", time.Time{}); err != nil || !account.Exists {
							t.Errorf("%+v, %v", account, err)
						}
						if account, _, err := ask(p, "gone"+strconv.Itoa(i), time.Time{}); err != nil || account.Exists {
							t.Errorf("%+v, %v", account, err)
						}
					})
				}
				all.Wait()
			}
			run(t, name, `alter table users alter id type varchar`)
			lookup(t, p, "live")
		})
	}
}

// pgbouncer starts a PgBouncer in transaction mode before the server, and
// returns its address.
func pgbouncer(t *testing.T, name string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer"
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("install PgBouncer (apt-get install pgbouncer): %v", err)
	}
	dir, err := os.MkdirTemp("", "pgb") // a path that another user can reach
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	host, port, err := net.SplitHostPort(server.Address())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, own, _ := net.SplitHostPort(address)
	config := fmt.Sprintf(`[databases]
%s = host=%s port=%s user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
`, name, host, port, own)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, file)
	if os.Geteuid() == 0 {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was told to end
		if t.Failed() {
			t.Log(output.String())
		}
	})
	eventually.Holds(t, "PgBouncer listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return address
}
