package cleanup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/certmagic"
	"github.com/jackc/pgx/v5"
)

// connect connects to a database until the end of the test.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Each run is that of another start of Caddy, with the same storage.
func TestTheFirstRunForATableOnlyCounts(t *testing.T) {
	t.Parallel()
	s := schemas["Prisma"]
	commands := []string{
		s.users, s.sessions, `create schema app; create table app."Session" (like "Session")`, fmt.Sprintf(s.person, "1"),
		fmt.Sprintf(s.row, "1", "1", "-1 year"), `insert into app."Session" select * from "Session"`,
	}
	dsn, copied := database(t, commands...), database(t, commands...)
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	for _, c := range []struct {
		name   string
		dsn    string
		config Config
		before []string
		says   string // what deletes the rows; empty if they are deleted
	}{
		{"a dry run", dsn, Config{DryRun: true}, nil, "remove `dry_run`"},
		{"another dry run", dsn, Config{DryRun: true}, nil, "remove `dry_run`"},
		{"no dry run any more", dsn, Config{}, nil, ""},
		{"another table", dsn, Config{Sessions: "app.Session"}, nil, "the next run, at"},
		{"the same table", dsn + "&application_name=other", Config{Sessions: "app.Session"}, nil, ""},
		{"another database", copied, Config{}, nil, "the next run, at"},
		{"the same database", copied, Config{}, nil, ""},
		{"another type of the time", copied, Config{}, []string{fmt.Sprintf(s.row, "1", "1", "-1 year"), `alter table "Session" alter expires type timestamptz`}, "the next run, at"},
	} {
		conn := connect(t, c.dsn)
		for _, command := range c.before {
			if _, err := conn.Exec(t.Context(), command); err != nil {
				t.Fatal(err)
			}
		}
		c.config.Storage = storage
		j, logs := start(t, c.dsn, c.config)
		if err := clean(t, j); err != nil {
			t.Fatal(err)
		}
		table := s.table
		if c.config.Sessions != "" {
			table = `app."Session"`
		}
		if got := left(t, c.dsn, table); (got == "1") != (c.says != "") {
			t.Errorf("%s: left: %q", c.name, got)
		}
		says := ""
		for _, entry := range logs.FilterMessage("session cleanup would delete").All() {
			says = fmt.Sprint(entry.Level, ": ", entry.ContextMap()["to_delete_them"])
		}
		if c.says == "" != (says == "") || c.says != "" && (!strings.HasPrefix(says, "warn") || !strings.Contains(says, c.says)) {
			t.Errorf("%s: %q does not say %q", c.name, says, c.says)
		}
	}
}

// broken is a storage that cannot be written, or not even read.
type broken struct {
	certmagic.Storage
	reads bool
}

var errBroken = errors.New("the disk is full")

func (b broken) Store(context.Context, string, []byte) error { return errBroken }

func (b broken) Load(ctx context.Context, key string) ([]byte, error) {
	if b.reads {
		return b.Storage.Load(ctx, key)
	}
	return nil, errBroken
}

func TestNothingIsDeletedIfTheFirstRunCannotBeKept(t *testing.T) {
	t.Parallel()
	s := schemas["Prisma"]
	dsn := database(t, s.users, s.sessions, fmt.Sprintf(s.person, "1"), fmt.Sprintf(s.row, "1", "1", "-1 year"))
	for _, reads := range []bool{true, false} {
		j, _ := start(t, dsn, Config{Storage: broken{&certmagic.FileStorage{Path: t.TempDir()}, reads}})
		for range 2 {
			if err := clean(t, j); !errors.Is(err, errBroken) {
				t.Errorf("error %v", err)
			}
		}
	}
	if got := left(t, dsn, s.table); got != "1" {
		t.Errorf("left: %q", got)
	}
}
