package pgtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestStartRestartAndClose(t *testing.T) {
	ctx := context.Background()
	s, err := Start(ctx, "max_connections=7")
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			s.Close()
		}
	}()
	name, err := s.NewDatabase(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Exec(ctx, name, "create table kept (id int)", "insert into kept values (1)"); err != nil {
		t.Fatal(err)
	}
	count := func() (n int, settings string) {
		conn, err := pgx.Connect(ctx, s.DSN(name))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if err := conn.QueryRow(ctx, "select count(*), current_setting('max_connections') from kept").Scan(&n, &settings); err != nil {
			t.Fatal(err)
		}
		return n, settings
	}
	if n, setting := count(); n != 1 || setting != "7" {
		t.Errorf("%d rows, max_connections %s", n, setting)
	}
	address := s.Address()
	if err := s.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if n, _ := count(); n != 1 || s.Address() != address {
		t.Errorf("after a restart: %d rows at %s, want 1 at %s", n, s.Address(), address)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := pgx.Connect(ctx, s.DSN(name)); err == nil {
		t.Error("a killed server answers")
	}
	if err := s.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.Log(), "ready to accept connections") {
		t.Errorf("log: %s", s.Log())
	}
	closed = true
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was not removed: %v", err)
	}
}

func TestAnInvalidDirectoryOfTheServerIsReported(t *testing.T) {
	t.Setenv("STALE_SESSION_PG_BIN", t.TempDir())
	if _, err := Find(context.Background()); err == nil || !strings.Contains(err.Error(), "STALE_SESSION_PG_BIN") {
		t.Errorf("error %v", err)
	}
}

func TestVersion(t *testing.T) {
	for path, want := range map[string]int{"/usr/lib/postgresql/15/bin": 15, "/usr/pgsql-18/bin": 18, "/opt/postgresql/bin": 0} {
		if got := version(path); got != want {
			t.Errorf("%s is version %d, want %d", path, got, want)
		}
	}
}

func TestADirectoryWithoutInitdbIsIncomplete(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "postgres"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if complete(dir) {
		t.Error("complete without initdb")
	}
}
