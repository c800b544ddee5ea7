package streams

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

func TestAReloadKeepsConnectionsAndAccounts(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	// Without the watch only the cache knows of the user, once it is deleted.
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	poll off", "}", app.Proxy()))
	live := standardapp.Session(t, "live")
	caddytest.Ask(t, base, live)
	before := standardapp.Backends(t, database)
	if len(before) != 1 {
		t.Fatalf("connections %v, want one", before)
	}
	standardapp.Execute(t, database, `delete from "User"`)
	for range 5 {
		base = caddytest.Start(t, caddytest.Site("header X-Reloaded yes", "stale_session {", "	poll off", "}", app.Proxy()))
	}
	if status := caddytest.Ask(t, base, live); status != http.StatusOK {
		t.Errorf("status %d: the cache was lost", status)
	}
	if status := caddytest.Ask(t, base, standardapp.Session(t, "gone")); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
	if after := standardapp.Backends(t, database); len(after) != 1 || after[0] != before[0] {
		t.Errorf("connections %v, before %v", after, before)
	}
}

func TestAReloadKeepsTheWatch(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	live := standardapp.Session(t, "live")
	caddytest.Ask(t, base, live)
	watching := func() []int {
		return standardapp.PIDs(t, `select pid from pg_stat_activity where datname = $1 and query like 'select date_part(%pg_is_in_recovery() %'`, database) // its last one, between two others
	}
	var before []int
	eventually.Holds(t, "the database is watched", func() bool { before = watching(); return len(before) == 1 })
	for range 5 {
		base = caddytest.Start(t, caddytest.Site("header X-Reloaded yes", "stale_session", app.Proxy()))
	}
	standardapp.Execute(t, database, `delete from "User"`)
	eventually.Holds(t, "the deletion is noticed", func() bool { return caddytest.Ask(t, base, live) == http.StatusUnauthorized })
	eventually.Holds(t, "it is watched by the same connection", func() bool { return slices.Equal(watching(), before) })
}

func TestRoutesAndSitesShareConnections(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site(
		"stale_session /a* {", "	respond json", "}", "stale_session /b* {", "	scrub all", "}", app.Proxy()))
	for _, path := range []string{"/a", "/b", "/c"} {
		caddytest.Ask(t, base+path, standardapp.Session(t, "live"+path))
	}
	// Two for lookups, one that watches.
	if pids := standardapp.Backends(t, database); len(pids) > 3 {
		t.Errorf("connections %v, want three at most", pids)
	}
}

func TestAnotherDatabaseTakesThePlaceOfTheFirst(t *testing.T) {
	first := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
	caddytest.Ask(t, base, standardapp.Session(t, "live"))
	second := standardapp.NewDatabase(t)
	standardapp.Execute(t, second, `delete from "User"`)
	base = caddytest.Start(t, caddytest.Site("stale_session", "header X y", app.Proxy()))
	if status := caddytest.Ask(t, base, standardapp.Session(t, "live")); status != http.StatusUnauthorized {
		t.Errorf("status %d: the first database was asked", status)
	}
	eventually.Holds(t, "the connections to the first are closed", func() bool { return len(standardapp.Backends(t, first)) == 0 })
}

func TestAReloadThatFailsChangesNothing(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	poll off", "}", app.Proxy()))
	caddytest.Ask(t, base, standardapp.Session(t, "live"))
	before := standardapp.Backends(t, database)
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
			if status := caddytest.Ask(t, base, standardapp.Session(t, "live")); status != http.StatusOK {
				t.Errorf("status %d", status)
			}
			if status := caddytest.Ask(t, base, standardapp.Session(t, "gone "+name)); status != http.StatusUnauthorized {
				t.Errorf("status %d: the database is not asked any more", status)
			}
			if after := standardapp.Backends(t, database); len(after) != 1 || after[0] != before[0] {
				t.Errorf("connections %v, before %v", after, before)
			}
		})
	}
}

// TestAStreamOpensNoConnectionsAgainAndAgain to what only its former configuration used:
// it is judged once more when that is closed, and not when what was opened for it is.
func TestAStreamOpensNoConnectionsAgainAndAgain(t *testing.T) {
	for name, c := range map[string]struct {
		before, then []string
		session      string
	}{
		"to users":    {[]string{"users User", "format authjs"}, []string{"users User {", "id id", "}", "format authjs"}, standardapp.Session(t, "live")},
		"to sessions": {[]string{"users User", "format better_auth"}, []string{"users User", "format authjs"}, betterAuthToken("session")},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			standardapp.Execute(t, database, betterAuthTable, `insert into session (token, "userId", "expiresAt") values ('session', 'live', now() + interval '1 day')`)
			t.Setenv("BETTER_AUTH_SECRET", standardapp.Secret)
			app := newStreamsApp(t, (*httptest.Server).Start)
			site := func(options []string) []string {
				return slices.Concat([]string{"stale_session {", "sign_in /login"}, options, []string{"}", "reverse_proxy " + app.Listener.Addr().String()})
			}
			live := startFor(t, "h1", site(c.before)...).open(t, "/events", c.session)
			base := caddytest.Start(t, caddytest.Site(site(c.then)...))
			time.Sleep(2 * time.Second)
			caddytest.Ask(t, base, standardapp.Session(t, "live"))
			time.Sleep(time.Second)
			before := standardapp.Backends(t, database)
			for range 15 {
				time.Sleep(100 * time.Millisecond)
				if after := standardapp.Backends(t, database); !slices.Equal(after, before) {
					t.Fatalf("connections %v, before %v", after, before)
				}
			}
			goesOn(t, app, live)
		})
	}
}

// TestStreamsOfAFormerDirectoryEndOneAfterTheOther although what judges them is shared for
// a while: it must know of a deletion as soon as whoever tells of it.
func TestStreamsOfAFormerDirectoryEndOneAfterTheOther(t *testing.T) {
	database := standardapp.NewDatabase(t)
	const users = 8
	standardapp.Execute(t, database, fmt.Sprintf(`insert into "User" select 'u' || g from generate_series(1, %d) g`, users))
	app := newStreamsApp(t, (*httptest.Server).Start)
	proxy := "reverse_proxy " + app.Listener.Addr().String()
	before := startFor(t, "h1", "stale_session", proxy)
	var streams []*http.Response
	for i := range users {
		streams = append(streams, before.open(t, "/events", standardapp.Session(t, fmt.Sprint("u", i+1))))
	}
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	poll 50ms", "	users {", "		id id", "	}", "}", proxy))
	caddytest.Ask(t, base, standardapp.Session(t, "live"))
	for i, stream := range streams {
		standardapp.Execute(t, database, fmt.Sprintf(`delete from "User" where id = 'u%d'`, i+1))
		late := time.AfterFunc(10*time.Second, func() {
			t.Errorf("stream %d goes on", i)
			_ = stream.Body.Close()
		})
		ends(t, stream)
		late.Stop()
	}
}

func TestStoppingLeavesNothingBehind(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	warm := func() {
		base := caddytest.Start(t, caddytest.Site("stale_session", app.Proxy()))
		caddytest.Ask(t, base, standardapp.Session(t, "live"))
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
	eventually.Holds(t, "the connections are closed", func() bool { return len(standardapp.Backends(t, database)) == 0 })
	goleak.VerifyNone(t, before)
}

func TestEverySessionIsJudgedRightWhileReloading(t *testing.T) {
	standardapp.NewDatabase(t)
	app := caddytest.NewApp(t)
	// One address that stays: a port of its own for this test.
	site := strings.Replace(caddytest.Site("stale_session", app.Proxy()), ":0", ":{$STALE_TEST_PORT}", 1)
	t.Setenv("STALE_TEST_PORT", caddytest.FreePort(t))
	base := caddytest.Start(t, site)
	live, gone := standardapp.Session(t, "live"), standardapp.Session(t, "gone")
	var stop atomic.Bool
	var all sync.WaitGroup
	var asked atomic.Int64
	for range 4 {
		all.Go(func() {
			for !stop.Load() {
				if status := caddytest.Answered(t, base, live); status != 0 && status != http.StatusOK {
					t.Errorf("a live session: status %d", status)
				}
				if status := caddytest.Answered(t, base, gone); status != 0 && status != http.StatusUnauthorized {
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
