package integration

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

// backends returns the process ids of the module's connections to a database.
func backends(t testing.TB, database string) []int {
	t.Helper()
	return pids(t, `select pid from pg_stat_activity where application_name = 'caddy-stale-session' and datname = $1 order by 1`, database)
}

// pids returns the process ids that a query finds for a database.
func pids(t testing.TB, query, database string) []int {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), server.DSN(database))
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

// ask sends an API request with a session, and returns the status.
func ask(t testing.TB, url, cookie string) int {
	t.Helper()
	return caddytest.Do(t, http.MethodGet, url, http.Header{"Cookie": {cookie}}).StatusCode
}

func TestAReloadKeepsConnectionsAndAccounts(t *testing.T) {
	database := newDatabase(t)
	app := caddytest.NewApp(t)
	// Without the watch only the cache knows of the user, once it is deleted.
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	poll off", "}", app.Proxy()))
	live := session(t, "live")
	ask(t, base, live)
	before := backends(t, database)
	if len(before) != 1 {
		t.Fatalf("connections %v, want one", before)
	}
	execute(t, database, `delete from "User"`)
	for range 5 {
		base = caddytest.Start(t, caddytest.Site("header X-Reloaded yes", "stale_session {", "	poll off", "}", app.Proxy()))
	}
	if status := ask(t, base, live); status != http.StatusOK {
		t.Errorf("status %d: the cache was lost", status)
	}
	if status := ask(t, base, session(t, "gone")); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
	if after := backends(t, database); len(after) != 1 || after[0] != before[0] {
		t.Errorf("connections %v, before %v", after, before)
	}
}

func TestAReloadKeepsTheWatch(t *testing.T) {
	database := newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	live := session(t, "live")
	ask(t, base, live)
	watching := func() []int {
		return pids(t, `select pid from pg_stat_activity where datname = $1 and query like 'select date_part(%pg_is_in_recovery() %'`, database) // its last one, between two others
	}
	var before []int
	eventually.Holds(t, "the database is watched", func() bool { before = watching(); return len(before) == 1 })
	for range 5 {
		base = caddytest.Start(t, caddytest.Site("header X-Reloaded yes", "stale_session", app.Proxy()))
	}
	execute(t, database, `delete from "User"`)
	eventually.Holds(t, "the deletion is noticed", func() bool { return ask(t, base, live) == http.StatusUnauthorized })
	eventually.Holds(t, "it is watched by the same connection", func() bool { return slices.Equal(watching(), before) })
}

func TestRoutesAndSitesShareConnections(t *testing.T) {
	database := newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site(
		"stale_session /a* {", "	respond json", "}", "stale_session /b* {", "	scrub all", "}", app.Proxy()))
	for _, path := range []string{"/a", "/b", "/c"} {
		ask(t, base+path, session(t, "live"+path))
	}
	// Two for lookups, one that watches.
	if pids := backends(t, database); len(pids) > 3 {
		t.Errorf("connections %v, want three at most", pids)
	}
}

func TestAnotherDatabaseTakesThePlaceOfTheFirst(t *testing.T) {
	first := newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	ask(t, base, session(t, "live"))
	second := newDatabase(t)
	execute(t, second, `delete from "User"`)
	base = caddytest.Start(t, caddytest.Site("stale_session", "header X y", app.Proxy()))
	if status := ask(t, base, session(t, "live")); status != http.StatusUnauthorized {
		t.Errorf("status %d: the first database was asked", status)
	}
	eventually.Holds(t, "the connections to the first are closed", func() bool { return len(backends(t, first)) == 0 })
}

func TestAReloadThatFailsChangesNothing(t *testing.T) {
	database := newDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	poll off", "}", app.Proxy()))
	ask(t, base, session(t, "live"))
	before := backends(t, database)
	for name, site := range map[string]string{
		"before it has acquired anything": "stale_session {\n\t\tsecret {env.NOT_SET}\n\t}",
		"after it has":                    "stale_session {\n\t\tmode maybe\n\t}",
		"in the second handler":           "stale_session\n\tstale_session /x {\n\t\tusers a.b.c\n\t}",
		"in another module":               "stale_session\n\treverse_proxy {\n\t\tto localhost:1\n\t\tlb_policy nonsense\n\t}",
		"in another site's matcher":       "stale_session\n\t@x expression nonsense(\n\trespond @x ok",
	} {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				if err := caddytest.Load(caddytest.Site(site, app.Proxy())); err == nil {
					t.Fatal("it loads")
				}
			}
			if status := ask(t, base, session(t, "live")); status != http.StatusOK {
				t.Errorf("status %d", status)
			}
			if status := ask(t, base, session(t, "gone "+name)); status != http.StatusUnauthorized {
				t.Errorf("status %d: the database is not asked any more", status)
			}
			if after := backends(t, database); len(after) != 1 || after[0] != before[0] {
				t.Errorf("connections %v, before %v", after, before)
			}
		})
	}
}

func TestStoppingLeavesNothingBehind(t *testing.T) {
	database := newDatabase(t)
	app := caddytest.NewApp(t)
	warm := func() {
		base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
		ask(t, base, session(t, "live"))
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		caddytest.Client.CloseIdleConnections()
		app.CloseClientConnections()
	}
	warm() // Caddy keeps some goroutines of its own for ever
	before := goleak.IgnoreCurrent()
	for range 5 {
		warm()
		_ = caddytest.Load(caddytest.Site("stale_session {\n\t\tmode maybe\n\t}")) // a first load that fails
	}
	eventually.Holds(t, "the connections are closed", func() bool { return len(backends(t, database)) == 0 })
	goleak.VerifyNone(t, before)
}

func TestEverySessionIsJudgedRightWhileReloading(t *testing.T) {
	newDatabase(t)
	app := caddytest.NewApp(t)
	// One address that stays: a port of its own for this test.
	site := strings.Replace(caddytest.Site("stale_session", app.Proxy()), ":0", ":{$STALE_TEST_PORT}", 1)
	t.Setenv("STALE_TEST_PORT", freePort(t))
	base := caddytest.Start(t, site)
	live, gone := session(t, "live"), session(t, "gone")
	var stop atomic.Bool
	var all sync.WaitGroup
	var asked atomic.Int64
	for range 4 {
		all.Go(func() {
			for !stop.Load() {
				if status := answered(t, base, live); status != 0 && status != http.StatusOK {
					t.Errorf("a live session: status %d", status)
				}
				if status := answered(t, base, gone); status != 0 && status != http.StatusUnauthorized {
					t.Errorf("a stale session: status %d", status)
				}
				asked.Add(1)
			}
		})
	}
	for i := range 20 {
		start := asked.Load()
		if err := caddytest.Load(strings.Replace(site, "stale_session", "header X-Reload "+string(rune('a'+i))+"\n\tstale_session", 1)); err != nil {
			t.Error(err)
		}
		eventually.Holds(t, "requests go on", func() bool { return asked.Load() > start+20 || t.Failed() })
	}
	stop.Store(true)
	all.Wait()
}

// answered is ask for times when connections break: Caddy ends some with each
// reload, with and without the module. The status is then 0.
func answered(t testing.TB, url, cookie string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Error(err)
		return 0
	}
	request.Header.Set("Cookie", cookie)
	response, err := caddytest.Client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}
