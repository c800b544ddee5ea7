// Package migrations tests that no migration of Prisma, Drizzle or Knex fails because
// of the triggers of `caddy stale-session install`, and that these come back.
package migrations

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

// server is a real Postgres, which the tests of this package share.
var server *pgtest.Server

func TestMain(m *testing.M) {
	if err := npm.Install(context.Background(), "app"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(pgtest.Main(func(s *pgtest.Server) int {
		server = s
		return m.Run()
	}))
}

// step is a migration of a tool.
type step struct {
	what   string
	run    func(t *testing.T)
	writes string // what the app writes to its users table then
	comes  bool   // the table was recreated: the triggers are to come back
}

// steps runs migrations. It installs the triggers after the first step, and removes them after the last.
func steps(t *testing.T, database, table string, all []step) {
	t.Helper()
	dsn := func() (string, error) { return server.DSN(database), nil }
	d, err := postgres.Open(postgres.Config{DSN: dsn, Users: postgres.Users{Table: table}})
	if err != nil {
		t.Fatal(err)
	}
	all[0].run(t)
	write(t, database, all[0].writes)
	install, err := d.InstallSQL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	restore, err := d.RestoreSQL(t.Context(), []string{"postgres"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context(), install+restore); err != nil {
		t.Fatal(err)
	}
	e := accounts.Open(d, accounts.Config{Poll: 50 * time.Millisecond})
	t.Cleanup(func() { _ = e.Close() })
	e.StartWatch()
	notified := func() bool { return e.Stats().Notified }
	eventually.Holds(t, "the triggers are heard", notified)
	for _, s := range all[1:] {
		s.run(t)
		if s.comes {
			eventually.Holds(t, "the triggers are back after "+s.what, func() bool { return triggers(t, database, table) == 3 && notified() })
		}
		write(t, database, s.writes)
		if t.Failed() {
			return
		}
	}
	if err := d.Run(t.Context(), postgres.UninstallSQL); err != nil {
		t.Error(err)
	}
	write(t, database, all[len(all)-1].writes)
}

// write runs what an app does.
func write(t *testing.T, database, sql string) {
	t.Helper()
	if err := server.Exec(t.Context(), database, sql); err != nil {
		t.Error(err)
	}
}

// triggers counts the triggers of a table.
func triggers(t *testing.T, database, table string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.DSN(database))
	if err == nil {
		defer conn.Close(context.Background())
		err = conn.QueryRow(t.Context(), `select count(*) from pg_trigger where tgrelid = to_regclass(quote_ident($1)) and tgname like 'stale_session%' and tgenabled = 'A'`, table).Scan(&n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// newDatabase creates a database of its own for a test.
func newDatabase(t *testing.T) string {
	t.Helper()
	name, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// tool runs a program of the app, and returns what it prints.
func tool(t *testing.T, database string, environment []string, program string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "app"
	cmd.Env = append(append(os.Environ(), "DATABASE_URL="+server.DSN(database), "NO_COLOR=1"), environment...)
	out, err := cmd.Output()
	if err != nil {
		detail := ""
		if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns no other
			detail = string(exit.Stderr)
		}
		t.Fatalf("%s %v: %v: %s%s", program, args, err, out, detail)
	}
	return out
}

func TestKnexMigrates(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	migrate := func(direction string) func(t *testing.T) {
		return func(t *testing.T) { t.Helper(); tool(t, database, nil, "node", "knex.mjs", direction) }
	}
	const writes = `insert into users (id, email) values (1, 'a'), (2, 'b'); update users set email = 'c'; delete from users where email = 'c'`
	const people = `insert into people (uid) values (1); update people set uid = uid + 1; delete from people`
	steps(t, database, "users", []step{
		{what: "the first migration", run: migrate("up"), writes: writes},
		{what: "another type of the id", run: migrate("up"), writes: writes},
		{what: "columns that are added and dropped", run: migrate("up"), writes: writes + `; update users set banned = true`},
		{what: "a renamed id", run: migrate("up"), writes: strings.Replace(writes, "(id", "(uid", 1)},
		{what: "a renamed table", run: migrate("up"), writes: people},
		{what: "a recreated table", run: migrate("up"), writes: `insert into people values (gen_random_uuid()); delete from people`},
		{what: "a rollback of everything", run: migrate("rollback"), writes: `select`},
		{what: "everything again", run: migrate("up"), writes: writes, comes: true},
	})
}

func TestDrizzlePushes(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	push := func(n int) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			tool(t, database, []string{fmt.Sprintf("STEP=%d", n)}, filepath.Join("node_modules", ".bin", "drizzle-kit"), "push", "--force")
		}
	}
	const writes = `insert into users (id, email) values (1, 'a'), (2, 'b'); update users set email = 'c'; delete from users where email = 'c'`
	steps(t, database, "users", []step{
		{what: "the first schema", run: push(1), writes: writes},
		{what: "another type of the id", run: push(2), writes: writes},
		{what: "a dropped column", run: push(3), writes: writes},
		{what: "an added column, and another type", run: push(4), writes: writes + `; update users set banned = true`},
		{what: "a dropped table", run: push(5), writes: `select`},
		{what: "a recreated table", run: push(6), writes: writes, comes: true},
	})
}

// The schemas of an app that uses Prisma.
const (
	prismaHeader = `datasource db {
  provider = "postgresql"
  url      = env("DATABASE_URL")
}
`
	prismaFirst = prismaHeader + `model User {
  id        Int @id @default(autoincrement())
  email     String @unique
  deletedAt DateTime?
  posts     Post[]
}
model Post {
  id     Int @id @default(autoincrement())
  author Int
  user   User @relation(fields: [author], references: [id], onDelete: Cascade)
}
`
	prismaSecond = prismaHeader + `model User {
  id     String @id @default(cuid())
  mail   String? @db.VarChar(300)
  banned Boolean @default(false)
  posts  Post[]
}
model Post {
  id     Int @id @default(autoincrement())
  author String
  user   User @relation(fields: [author], references: [id], onDelete: Cascade)
}
`
)

// The engine of Prisma that migrates is the one in WebAssembly, which is a part of its
// npm package: the CLI would download the other one.
func TestPrismaMigratesResetsAndPushes(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	unused := file("unused", "") // instead of the engines that it would download
	schema := file("schema.prisma", prismaFirst)
	file("migrations/migration_lock.toml", `provider = "postgresql"`)
	prisma := func(t *testing.T, args ...string) string {
		t.Helper()
		return string(tool(t, database, []string{
			"SCHEMA=" + schema, "MIGRATIONS=" + filepath.Join(dir, "migrations"), "CHECKPOINT_DISABLE=1", "PRISMA_HIDE_UPDATE_MESSAGE=1",
			"PRISMA_QUERY_ENGINE_LIBRARY=" + unused, "PRISMA_SCHEMA_ENGINE_BINARY=" + unused,
		}, filepath.Join("node_modules", ".bin", "prisma"), args...))
	}
	first := `insert into "User" (email) values ('a'); update "User" set email = 'b'; delete from "User"`
	second := `insert into "User" (id, mail) values ('x', 'a'); update "User" set banned = true; delete from "User"`
	steps(t, database, "User", []step{
		{what: "the first migration", run: func(t *testing.T) {
			t.Helper()
			file("migrations/1_first/migration.sql", prisma(t, "migrate", "diff", "--from-empty", "--to-schema-datamodel", schema, "--script"))
			prisma(t, "migrate", "deploy")
		}, writes: first},
		{what: "another type of the id, and other columns", run: func(t *testing.T) {
			t.Helper()
			file("migrations/2_second/migration.sql", prisma(t, "migrate", "diff", "--from-schema-datamodel", schema, "--to-schema-datamodel", file("second.prisma", prismaSecond), "--script"))
			file("schema.prisma", prismaSecond)
			prisma(t, "migrate", "deploy")
		}, writes: second},
		{what: "a migration by hand", run: func(t *testing.T) {
			t.Helper()
			file("migrations/3_third/migration.sql", `BEGIN; UPDATE "User" SET banned = true; ALTER TABLE "User" ALTER COLUMN banned TYPE text USING banned::text; ALTER TABLE "User" DROP COLUMN banned; ALTER TABLE "User" RENAME TO "Person"; ALTER TABLE "Person" RENAME TO "User"; ALTER TABLE "User" ADD COLUMN banned boolean NOT NULL DEFAULT false; COMMIT;`)
			prisma(t, "migrate", "deploy")
		}, writes: second},
		{what: "migrate reset", run: func(t *testing.T) {
			t.Helper()
			prisma(t, "migrate", "reset", "--force", "--skip-generate", "--skip-seed")
		}, writes: second, comes: true},
		{what: "db push --force-reset", run: func(t *testing.T) {
			t.Helper()
			prisma(t, "db", "push", "--force-reset", "--skip-generate")
		}, writes: second, comes: true},
		{what: "db push of another schema", run: func(t *testing.T) {
			t.Helper()
			file("schema.prisma", prismaFirst)
			prisma(t, "db", "push", "--accept-data-loss", "--skip-generate")
		}, writes: first},
	})
}
