// Package standardapp is an app as many are, for tests: a users table in a real
// Postgres, the usual environment variables, and sessions of NextAuth v4.
package standardapp

import (
	"context"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

const (
	// Secret is the app's NEXTAUTH_SECRET.
	Secret = "integration secret"
	// CookieName is the name of its session cookie.
	CookieName = "next-auth.session-token"
)

// Server is the Postgres that the tests of a package share. Main starts it.
var Server *pgtest.Server

// Main runs the tests of a package, by run, and returns the exit code. Lookups may take long,
// because tests run on slow machines.
func Main(run func() int) (code int) {
	accounts.DefaultTimeout = time.Minute
	return pgtest.Main(func(s *pgtest.Server) int {
		Server = s
		return run()
	})
}

// NewDatabase makes a database with the user "live", and sets the environment
// of a standard app.
func NewDatabase(t testing.TB) string {
	t.Helper()
	name, err := Server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := Server.Exec(t.Context(), name, `create table "User" (id text primary key)`, `insert into "User" values ('live')`); err != nil {
		t.Fatal(err)
	}
	Environment(t, Server.DSN(name))
	return name
}

// Environment sets the environment of a standard app, until the end of the test.
func Environment(t testing.TB, dsn string) {
	t.Helper()
	t.Setenv("DATABASE_URL", dsn)
	t.Setenv("NEXTAUTH_SECRET", Secret)
	for _, variable := range []string{"AUTH_SECRET", "AUTH_URL", "NEXTAUTH_URL", "STALE_SESSION_MODE"} {
		t.Setenv(variable, "")
	}
}

// OtherEnvironment is Environment for an app with another library than Auth.js.
func OtherEnvironment(t testing.TB, dsn string, variables map[string]string) {
	t.Helper()
	Environment(t, dsn)
	t.Setenv("NEXTAUTH_SECRET", "")
	for _, name := range []string{
		"SECRET_COOKIE_PASSWORD", "IRON_SESSION_PASSWORD", "SESSION_PASSWORD", "SESSION_SECRET", "NUXT_SESSION_PASSWORD",
		"SUPABASE_JWT_SECRET", "SUPABASE_JWKS_URL", "SUPABASE_URL", "NEXT_PUBLIC_SUPABASE_URL", "AUTH0_SECRET", "BETTER_AUTH_SECRET", "BETTER_AUTH_SECRETS",
	} {
		t.Setenv(name, variables[name])
	}
}

// Execute runs SQL.
func Execute(t testing.TB, database string, commands ...string) {
	t.Helper()
	if err := Server.Exec(context.Background(), database, commands...); err != nil {
		t.Fatal(err)
	}
}

// Session is the Cookie field of a subject.
func Session(t testing.TB, subject string) string {
	t.Helper()
	token, err := mint.V4(Secret, map[string]any{"sub": subject})
	if err != nil {
		t.Fatal(err)
	}
	return CookieName + "=" + token
}

// TokenOf is the Cookie field of a subject, issued some time ago.
func TokenOf(t testing.TB, subject string, ago time.Duration) string {
	t.Helper()
	token, err := mint.V4(Secret, map[string]any{"sub": subject, "iat": time.Now().Add(-ago).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	return CookieName + "=" + token
}

// SupabaseSession returns the Cookie field of a session of a user of Supabase.
func SupabaseSession(t testing.TB, user, session string) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user, "session_id": session, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(Secret))
	if err != nil {
		t.Fatal(err)
	}
	value, err := mint.Supabase(token, nil)
	if err != nil {
		t.Fatal(err)
	}
	return "sb-project-auth-token=" + value
}

// InstallTriggers installs the triggers in the database that dsn names.
func InstallTriggers(t testing.TB, dsn string) {
	t.Helper()
	d, err := postgres.Open(postgres.Config{DSN: func() (string, error) { return dsn, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	sql, err := d.InstallSQL(context.Background())
	if err == nil {
		err = d.Run(context.Background(), sql)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Backends returns the process ids of the module's connections to a database.
func Backends(t testing.TB, database string) []int {
	t.Helper()
	return PIDs(t, `select pid from pg_stat_activity where application_name = 'caddy-stale-session' and datname = $1 order by 1`, database)
}

// PIDs returns the process ids that a query finds for a database.
func PIDs(t testing.TB, query, database string) []int {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), Server.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(context.Background(), query, database)
	if err != nil {
		t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	return pids
}
