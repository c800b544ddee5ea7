package postgres

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

func TestFailuresSayWhatToDo(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	reader := "reader_of_" + name // roles belong to the whole server
	run(t, name, `create role `+reader+` login password 'hunter2'`)
	asReader := strings.Replace(server.DSN(name), "postgres@", reader+":hunter2@", 1)
	t.Run("no rights", func(t *testing.T) {
		d, _ := open(t, asReader, Config{})
		if e := failure(t, d, "live"); e.Class != directories.Rights || !strings.Contains(e.Error(), "GRANT") {
			t.Errorf("%v", e)
		}
		run(t, name, `grant select (id) on users to `+reader, `alter table users add column "deletedAt" timestamptz`)
		if !lookup(t, d, "live").Exists {
			t.Error("the id alone is enough")
		}
	})
	t.Run("no such database", func(t *testing.T) {
		d, _ := open(t, server.DSN("nowhere"), Config{})
		if e := failure(t, d, "live"); e.Class != directories.Refused || e.Code != "3D000" {
			t.Errorf("%v", e)
		}
	})
	t.Run("no such user", func(t *testing.T) {
		d, _ := open(t, strings.Replace(server.DSN(name), "postgres@", "stranger:hunter2@", 1), Config{})
		if e := failure(t, d, "live"); e.Class != directories.Refused || strings.Contains(e.Error(), "hunter2") {
			t.Errorf("%v", e)
		}
	})
	t.Run("too many connections", func(t *testing.T) {
		run(t, "postgres", `alter role `+reader+` connection limit 0`)
		d, _ := open(t, asReader, Config{})
		if e := failure(t, d, "live"); e.Class != directories.Down || e.Code != "53300" || !strings.Contains(e.Error(), "max_connections") {
			t.Errorf("%v", e)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		const address = "127.0.0.1:1"
		d, lines := open(t, "postgres://u:hunter2@"+address+"/d?sslmode=disable", Config{})
		account, _, err := ask(engine(t, d, accounts.Config{}), "live", time.Time{})
		if e := failureOf(t, account, err); e.Class != directories.Down || !strings.Contains(e.Error(), address) {
			t.Errorf("%v", e)
		}
		if lines.Len() == 0 {
			t.Error("nothing is logged")
		}
		for _, line := range lines.All() {
			if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "hunter2") {
				t.Errorf("the password is in the log: %s", text)
			}
		}
	})
	t.Run("a server that does not answer", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		d, _ := open(t, "postgres://u@"+listener.Addr().String()+"/d?sslmode=disable", Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		found, err := d.Lookup(ctx, []directories.Query{{Subject: []byte("live")}})
		if e := failureOf(t, found, err); e.Class != directories.Slow {
			t.Errorf("%v", e)
		}
	})
}
