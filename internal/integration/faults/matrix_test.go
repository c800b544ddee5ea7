package faults

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/faultproxy"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

var writeFaults = flag.Bool("write-faults", false, "write docs/faults.md anew")

// faultsDoc is where the table of faults is.
const faultsDoc = "../../../docs/faults.md"

// bench is a Caddy with all that it depends on, in which faults are made.
type bench struct {
	t        *testing.T
	postgres *pgtest.Server
	network  *faultproxy.Proxy // between Caddy and Postgres
	upstream *faultproxy.Proxy // between Caddy and the app
	app      *caddytest.App
	storage  string
	operator *caddytest.Operator
	site     string
	base     string
	resume   func() error

	// For the rows about Redis; see redisSites.
	whole         *testing.T // the test of all rows
	log           *caddytest.Log
	shared, users *cacheBeside // the Redis of revocations, and that of users
	revocations   []string     // the option
	sites         map[string]string
	loaded        string
	other         *node
	early, quiet  string   // sessions that are revoked before and during a fault
	noted         []string // see saw
}

// passing and refused are what can become of a session.
const (
	passing = "passes"
	refused = "is refused"
	either  = "passes or is refused"
)

// faultRow is a row of the table.
type faultRow struct {
	part, fault string
	// what is done, in words.
	what string
	// live and stale are what becomes of a session of a user who exists, and of
	// one who does not, while the fault lasts. The live one gets appStatus.
	stale     string
	appStatus int // 0 for 200
	begin     func(*bench) error
	end       func(*bench) error
	// live makes another session than the usual one.
	live func(*bench) string
	// site is one of bench.sites. There a lookup may take long, because tests run on slow
	// machines, unless a stale session may pass, or waits says that requests wait for the
	// fault.
	site  string
	waits bool
	// also is what is expected besides.
	also string
	// after puts the bench in order again.
	after func(*bench) error
}

func (b *bench) sql(commands ...string) error {
	return b.postgres.Exec(context.Background(), "postgres", commands...)
}

func setNetwork(f faultproxy.Fault) func(*bench) error {
	return func(b *bench) error { b.network.Set(f); return nil }
}

func setUpstream(f faultproxy.Fault) func(*bench) error {
	return func(b *bench) error { b.upstream.Set(f); return nil }
}

// restartProxy ends what hangs, and lets connections through again.
func restartProxy(p *faultproxy.Proxy) {
	p.Refuse()
	p.Set(faultproxy.None)
	p.Listen()
}

const usersOfMatrix = `create table "User" (id text primary key, "createdAt" timestamptz); insert into "User" (id) values ('live'), ('quiet'), ('early')`

// faultRows is the table: what fails × how. Where a part cannot fail in a way
// there is no row.
var faultRows = []faultRow{
	{
		part: "postgres", fault: "kill", what: "the server crashes", stale: either,
		begin: func(b *bench) error { return b.postgres.Kill() },
		end:   func(b *bench) error { return b.postgres.Restart(context.Background()) },
	},
	{
		part: "postgres", fault: "pause", what: "all of its processes are stopped (SIGSTOP)", stale: either,
		begin: func(b *bench) (err error) { b.resume, err = b.postgres.Pause(context.Background()); return err },
		end:   func(b *bench) error { return b.resume() },
	},
	{
		part: "postgres", fault: "slow", what: "a migration holds the users table locked", stale: either,
		begin: func(b *bench) error {
			held := make(chan error, 1)
			go func() { held <- b.sql(`begin; lock table "User"; select pg_sleep(2); commit`) }()
			b.resume = func() error { return <-held }
			return nil
		},
		end: func(b *bench) error { return b.resume() },
	},
	{
		part: "postgres", fault: "reset", what: "an administrator closes every connection, over and over", stale: either,
		begin: func(b *bench) error {
			done, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				for {
					select {
					case <-done:
						ended <- nil
						return
					default:
						if err := b.sql(`select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'`); err != nil {
							ended <- err
							return
						}
					}
				}
			}()
			b.resume = func() error { close(done); return <-ended }
			return nil
		},
		end: func(b *bench) error { return b.resume() },
	},
	{
		part: "postgres", fault: "wrong answer", what: "the users table is gone (42P01)", stale: either,
		begin: func(b *bench) error { return b.sql(`alter table "User" rename to "Users_old"`) },
		end:   func(b *bench) error { return b.sql(`alter table "Users_old" rename to "User"`) },
	},
	{
		part: "network", fault: "kill", what: "connections are refused", stale: either,
		begin: func(b *bench) error { b.network.Refuse(); return nil },
		end:   func(b *bench) error { b.network.Listen(); return nil },
	},
	{
		part: "network", fault: "pause", what: "a black hole: nothing arrives", stale: either,
		begin: setNetwork(faultproxy.Hole),
		end:   func(b *bench) error { restartProxy(b.network); return nil },
	},
	{part: "network", fault: "slow", what: "each answer takes 100 ms longer", stale: either, begin: setNetwork(faultproxy.Slow), end: setNetwork(faultproxy.None)},
	{part: "network", fault: "reset", what: "connections are reset in the middle of an answer", stale: either, begin: setNetwork(faultproxy.Reset), end: setNetwork(faultproxy.None)},
	{part: "network", fault: "wrong answer", what: "something other than Postgres answers", stale: either, begin: setNetwork(faultproxy.Wrong), end: setNetwork(faultproxy.None)},
	{
		part: "upstream", fault: "kill", what: "the app is down", stale: refused, appStatus: http.StatusBadGateway,
		begin: func(b *bench) error { b.upstream.Refuse(); return nil },
		end:   func(b *bench) error { b.upstream.Listen(); return nil },
	},
	{
		part: "upstream", fault: "pause", what: "the app does not answer", stale: refused, appStatus: http.StatusGatewayTimeout,
		begin: func(b *bench) error {
			b.app.Answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			return nil
		},
		end: func(b *bench) error { b.app.Answer(nil); return nil },
	},
	{part: "upstream", fault: "slow", what: "the app takes 100 ms longer", stale: refused, begin: setUpstream(faultproxy.Slow), end: setUpstream(faultproxy.None)},
	{part: "upstream", fault: "reset", what: "connections are reset in the middle of an answer", stale: refused, appStatus: http.StatusBadGateway, begin: setUpstream(faultproxy.Reset), end: setUpstream(faultproxy.None)},
	{
		part: "upstream", fault: "wrong answer", what: "the app fails with 500", stale: refused, appStatus: http.StatusInternalServerError,
		begin: func(b *bench) error {
			b.app.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
			return nil
		},
		end: func(b *bench) error { b.app.Answer(nil); return nil },
	},
	{part: "clock", fault: "ahead", what: "the app's clock is an hour ahead (`iat`)", stale: refused, live: issued(time.Hour)},
	{
		part: "clock", fault: "behind", what: "the app's clock is 50 s behind the database's, at a sign-up", stale: refused, live: issued(-50 * time.Second),
		begin: func(b *bench) error { return b.sql(`update "User" set "createdAt" = now() where id = 'live'`) },
		end:   func(b *bench) error { return b.sql(`update "User" set "createdAt" = null`) },
	},
	{
		part: "clock", fault: "database ahead", what: "the database's clock is a year ahead (`createdAt`)", stale: refused,
		begin: func(b *bench) error {
			return b.sql(`update "User" set "createdAt" = now() + interval '1 year' where id = 'live'`)
		},
		end: func(b *bench) error { return b.sql(`update "User" set "createdAt" = null`) },
	},
	{
		part: "disk", fault: "gone", what: "Caddy's storage is removed and cannot be recreated; a session is revoked", stale: refused,
		begin: func(b *bench) error {
			if err := os.RemoveAll(b.storage); err != nil {
				return err
			}
			if err := os.WriteFile(b.storage, nil, 0o600); err != nil {
				return err
			}
			return b.revokes("quiet", "in effect only until Caddy restarts")
		},
		end: func(b *bench) error {
			if err := os.Remove(b.storage); err != nil {
				return err
			}
			return b.restores()
		},
	},
	{
		part: "disk", fault: "wrong answer", what: "the list of revoked sessions is garbage; a session is revoked", stale: refused,
		begin: func(b *bench) error {
			if err := b.revokes("somebody", ""); err != nil {
				return err
			}
			files, err := filepath.Glob(b.storage + "/stale_session/revoked/*")
			if err != nil || len(files) == 0 {
				return fmt.Errorf("the list is in %q, %w", files, err)
			}
			for _, file := range files {
				if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
					return err
				}
			}
			return b.revokes("quiet", "in effect only until Caddy restarts")
		},
		end: func(b *bench) error {
			if err := os.RemoveAll(b.storage + "/stale_session"); err != nil {
				return err
			}
			return b.restores()
		},
	},
	{
		part: "reload", fault: "wrong configuration", what: "invalid configurations are loaded over and over", stale: refused,
		begin: reloads(func(b *bench, i int) error {
			wrong := []string{"secret {env.NO_SUCH_SECRET}", "poll 1h", "brake x 1m", "jwks /nowhere/x.json"}[i%4]
			if err := caddytest.Load(strings.Replace(b.loaded, "poll 50ms", wrong, 1)); err == nil {
				return fmt.Errorf("%s was loaded", wrong)
			}
			return nil
		}), end: func(b *bench) error { return b.resume() },
	},
	{
		part: "reload", fault: "again and again", what: "the configuration is reloaded over and over", stale: refused,
		begin: reloads(func(b *bench, i int) error {
			return caddytest.Load(strings.Replace(b.loaded, "stale_session {", fmt.Sprintf("header X-Reload %d\n\tstale_session {", i), 1))
		}), end: func(b *bench) error { return b.resume() },
	},
	{
		part: "reload", fault: "database down", what: "reloads while the database is down", stale: either,
		begin: func(b *bench) error {
			if err := b.postgres.Kill(); err != nil {
				return err
			}
			return caddytest.Load(strings.Replace(b.loaded, "stale_session {", "header X-Reload down\n\tstale_session {", 1))
		},
		end: func(b *bench) error { return b.postgres.Restart(context.Background()) },
	},
}

// issued makes a session whose token was issued some time from now.
func issued(from time.Duration) func(*bench) string {
	return func(b *bench) string {
		token, err := mint.V4(standardapp.Secret, map[string]any{"sub": "live", "iat": time.Now().Add(from).Unix()})
		if err != nil {
			b.t.Fatal(err)
		}
		return standardapp.CookieName + "=" + token
	}
}

// reloads loads configurations one after the other until it is told to end.
func reloads(load func(b *bench, i int) error) func(*bench) error {
	return func(b *bench) error {
		done, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					ended <- caddytest.Load(b.loaded)
					return
				default:
					if err := load(b, i); err != nil {
						ended <- err
						return
					}
				}
			}
		}()
		b.resume = func() error { close(done); return <-ended }
		return nil
	}
}

// revokes ends the sessions of a user by hand, and looks at what is said.
func (b *bench) revokes(subject, says string) error {
	cookie := standardapp.Session(b.t, subject) // issued before
	if said := b.operator.Do(http.MethodPost, "revoke", caddytest.Object{"subject": subject, "force": true}, nil); !strings.Contains(said, cmp.Or(says, subject)) {
		return fmt.Errorf("revoking says %s", said)
	}
	if subject == "quiet" && caddytest.Answered(b.t, b.base+"/admin", cookie) == http.StatusOK {
		return fmt.Errorf("the session of %s still passes", subject)
	}
	return nil
}

func (b *bench) restores() error {
	b.operator.Do(http.MethodPost, "restore", map[string]string{"subject": "quiet"}, nil)
	return nil
}

// newBench starts all.
func newBench(t *testing.T) *bench {
	pg := pgtest.StartFor(t)
	b := &bench{t: t, whole: t, postgres: pg, network: faultproxy.New(t, pg.Address()), app: caddytest.NewApp(t), operator: caddytest.NewOperator(t)}
	if err := b.sql(usersOfMatrix); err != nil {
		t.Fatal(err)
	}
	b.upstream = faultproxy.New(t, b.app.Listener.Addr().String())
	standardapp.Environment(t, strings.Replace(pg.DSN("postgres"), pg.Address(), b.network.Address, 1))
	t.Setenv("STALE_TEST_PORT", caddytest.FreePort(t))
	site := b.operator.Config("stale_session {", "	poll 50ms", "	timeout 500ms", "	users \"User\" {", "		created_at createdAt", "	}", "	cache {", "		ttl 50ms", "	}", "}",
		"reverse_proxy "+b.upstream.Address+" {", "	transport http {", "		response_header_timeout 1s", "		keepalive off", "	}", "}")
	_, rest, _ := strings.Cut(site, "storage file_system ")
	b.storage, _, _ = strings.Cut(rest, "\n")
	b.site = strings.Replace(site, ":0", ":{$STALE_TEST_PORT}", 1)
	var options string
	b.log, options = caddytest.NewLog(t)
	_, options, _ = strings.Cut(options, "{\n")
	options, _, _ = strings.Cut(options, "\tadmin")
	b.site = strings.Replace(strings.Replace(b.site, "{\n", "{\n"+options, 1), "level DEBUG", "level INFO", 1)
	b.redisSites()
	b.base = caddytest.Start(t, b.site)
	b.loaded = b.site
	return b
}

// requestsOfRow is how often each session is used during a fault, by clients
// that ask at the same time: many faults make a request wait for its timeout.
const (
	requestsOfRow = 30
	clientsOfRow  = 5
)

// seen counts the responses during a fault by status.
type seen struct {
	live, stale, revoked map[int]int
	longest              time.Duration
}

// ask uses sessions while a fault lasts. The one revoked before may be empty.
func (b *bench) ask(live, stale, revoked string) seen {
	s := seen{live: make(map[int]int), stale: make(map[int]int), revoked: make(map[int]int)}
	var mu sync.Mutex
	var clients sync.WaitGroup
	for range clientsOfRow {
		clients.Go(func() {
			for range requestsOfRow / clientsOfRow {
				for cookie, counted := range map[string]map[int]int{live: s.live, stale: s.stale, revoked: s.revoked} {
					if cookie == "" {
						continue
					}
					start := time.Now()
					status := caddytest.Answered(b.t, b.base+"/admin", cookie)
					for again := 0; status == 0 && again < 10; again++ { // a reload closes idle connections, and browsers ask again
						status = caddytest.Answered(b.t, b.base+"/admin", cookie)
					}
					took := time.Since(start)
					mu.Lock()
					counted[status]++
					s.longest = max(s.longest, took)
					mu.Unlock()
				}
			}
		})
	}
	clients.Wait()
	return s
}

func (s seen) String() string {
	text := fmt.Sprintf("live: %s; stale: %s", statuses(s.live), statuses(s.stale))
	if len(s.revoked) > 0 {
		text += "; revoked before: " + statuses(s.revoked)
	}
	return text + "; longest wait " + s.longest.Round(time.Millisecond).String()
}

func statuses(counted map[int]int) string {
	var parts []string
	for status, n := range counted {
		parts = append(parts, fmt.Sprintf("%d × %d", n, status))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// TestFaults makes each fault of the table while sessions are used, and looks
// at what becomes of them: a live one is never ended, whatever fails, and a
// stale one is refused whenever that can be known, and again as soon as the
// fault is over.
func TestFaults(t *testing.T) {
	b := newBench(t)
	gone := standardapp.Session(t, "gone")
	var rows []string
	for _, row := range slices.Concat(faultRows, redisRows) {
		name := strings.NewReplacer(" ", "_", ",", "").Replace(row.part + "_" + row.fault)
		if !t.Run(name, func(t *testing.T) {
			b.t, b.noted = t, nil
			b.use(row)
			live := standardapp.Session(t, "live")
			if row.live != nil {
				live = row.live(b)
			}
			well := func() bool {
				return caddytest.Answered(t, b.base+"/admin", live) == http.StatusOK && caddytest.Answered(t, b.base+"/admin", gone) == http.StatusUnauthorized
			}
			if row.begin != nil && row.live == nil {
				eventually.Holds(t, "all is well before", well)
			}
			if row.begin != nil {
				if err := row.begin(b); err != nil {
					t.Fatal(err)
				}
			}
			s := b.ask(live, gone, b.early)
			if row.end != nil {
				if err := row.end(b); err != nil {
					t.Fatal(err)
				}
			}
			want := row.appStatus
			if want == 0 {
				want = http.StatusOK
			}
			if s.live[want] != requestsOfRow {
				t.Errorf("live sessions: %s, want %d", statuses(s.live), want)
			}
			if row.stale == refused && s.stale[http.StatusUnauthorized] != requestsOfRow || s.stale[http.StatusUnauthorized]+s.stale[http.StatusOK] != requestsOfRow {
				t.Errorf("stale sessions: %s; it %s", statuses(s.stale), row.stale)
			}
			if len(s.revoked) > 0 && s.revoked[http.StatusUnauthorized] != requestsOfRow {
				t.Errorf("sessions that were revoked before: %s", statuses(s.revoked))
			}
			eventually.Holds(t, "all is well after", well)
			if row.after != nil {
				if err := row.after(b); err != nil {
					t.Fatal(err)
				}
			}
			expected := "the live session " + passing
			switch want {
			case http.StatusOK:
			case http.StatusUnauthorized:
				expected = "the live session is refused, as its user is gone"
			default:
				expected = fmt.Sprintf("the live session gets the %d of the proxy or the app", want)
			}
			expected += "; the stale one " + row.stale
			if row.also != "" {
				expected += "; one revoked before is refused; " + row.also
			}
			saw := strings.Join(append([]string{s.String()}, b.noted...), "; ")
			rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s; after: live 200, stale 401 | `TestFaults/%s` |",
				row.part, row.fault, row.what, expected, saw, name))
		}) {
			t.FailNow() // the fault may go on
		}
	}
	checkLog(t, b.log.Text(t))
	t.Log("\n" + strings.Join(rows, "\n"))
	checkFaultsDoc(t, rows)
}

// checkFaultsDoc holds docs/faults.md against the table, figures left out.
func checkFaultsDoc(t *testing.T, rows []string) {
	t.Helper()
	text, err := os.ReadFile(faultsDoc)
	if err != nil && !*writeFaults {
		t.Fatal(err)
	}
	const from, to = "<!-- faults -->\n", "<!-- end -->\n"
	before, rest, _ := strings.Cut(string(text), from)
	table, after, found := strings.Cut(rest, to)
	if !found {
		t.Fatalf("%s has no place for the table", faultsDoc)
	}
	if *writeFaults {
		table = "| part | fault | what is done | expected | seen | test |\n|---|---|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
		if err := os.WriteFile(faultsDoc, []byte(before+from+table+to+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, row := range rows {
		columns := strings.Split(row, " | ")
		if !strings.Contains(table, strings.Join(columns[:4], " | ")) || !strings.Contains(table, columns[5]) {
			t.Errorf("docs/faults.md lacks %s: write it anew with -write-faults", row)
		}
	}
}
