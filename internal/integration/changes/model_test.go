package changes

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// person is somebody who has had an account with an id that others have used
// before and after.
type person struct {
	id      int
	created time.Time
}

// insert is the SQL that makes the person's account.
func (p person) insert() string {
	return fmt.Sprintf(`insert into "User" values (%d, '%s', false, '%s')`, p.id, p.created.Format(time.RFC3339), p.email())
}

func (p person) email() string {
	return fmt.Sprintf("%d@example.com", p.created.Unix())
}

// modelSession is a session that somebody has signed in to.
type modelSession struct {
	person person
	cookie string
	live   bool // before the last change
}

// model is what the database holds, and what has to come of each session.
type model struct {
	t        *testing.T
	pg       *pgtest.Server
	rows     map[int]person
	banned   map[int]bool
	clock    time.Time // when the next account is created: always in the past
	sessions []modelSession
	away     bool
	standby  *pgtest.Server // that lookups go to; nil for none
	lags     bool
	reads    bool              // lookups use a role that can only read
	unproven map[obstacle]bool // what keeps an absence from being proven
	copies   []map[int]person  // that can be restored
}

// obstacle keeps the role that only reads from seeing what the app sees, as far as
// can be proven.
type obstacle struct{ what, begin, end string }

var obstacles = []obstacle{
	{"row-level security hides all rows", `alter table "User" enable row level security`, `alter table "User" disable row level security`},
	{"the role has lost its right", `revoke select on "User" from reader`, `grant select on "User" to reader`},
	{"the role has lost its right to the schema", `revoke usage on schema public from public`, `grant usage on schema public to public`},
	{
		"another table has the same name", `create schema other; create table other."User" as select n as id from generate_series(1, 99) n; grant usage on schema other to reader; grant select on other."User" to reader`,
		`drop schema other cascade`,
	},
	{
		"another table has the same name, which the role may not read",
		`create schema hidden; create table hidden."User" (id int)`, `drop schema hidden cascade`,
	},
	{
		"the table is renamed for a while", `alter table "User" rename to "User_old"`, `alter table "User_old" rename to "User"`,
	},
}

const modelIDs = 5

// live tells whether a session has to pass.
func (m *model) live(s modelSession) bool {
	row, exists := m.rows[s.person.id]
	return exists && row == s.person && !m.banned[s.person.id]
}

func (m *model) exec(commands ...string) {
	m.t.Helper()
	execute(m.t, m.pg, "postgres", commands...)
}

// signIn makes a session of whoever has an id now. It was issued two minutes
// after the account was created, and five before the next one; just now if not
// everything can be looked up at once, because what is known is then proven of
// earlier times.
func (m *model) signIn(id int) {
	who := m.rows[id]
	at := who.created.Add(2 * time.Minute)
	if m.standby != nil || m.reads {
		at = time.Now()
	}
	m.issue(who, at)
}

// renew makes a session anew, as the app itself does without a look at the
// database: with everything that it says, as of now.
func (m *model) renew(s modelSession) { m.issue(s.person, time.Now()) }

func (m *model) issue(who person, at time.Time) {
	token, err := mint.V4(standardapp.Secret, map[string]any{"sub": fmt.Sprint(who.id), "iat": at.Unix(), "email": who.email(), "jti": rand.Int()})
	if err != nil {
		m.t.Fatal(err)
	}
	was := slices.ContainsFunc(m.sessions, func(s modelSession) bool { return s.person == who && s.live })
	m.sessions = append(m.sessions, modelSession{person: who, cookie: standardapp.CookieName + "=" + token, live: was})
}

// step changes something at random, and says what.
func (m *model) step(id int) string {
	_, exists := m.rows[id]
	switch n := rand.IntN(15); {
	case !m.away && !m.changeable():
		return m.meet(obstacle{})
	case m.away:
		m.away = false
		if err := m.pg.Restart(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
		return "the database comes back"
	case n < 3 && exists:
		delete(m.rows, id)
		delete(m.banned, id)
		m.exec(fmt.Sprintf(`delete from "User" where id = %d`, id))
		return fmt.Sprintf("%d is deleted", id)
	case n < 6 && !exists:
		m.clock = m.clock.Add(7 * time.Minute)
		m.rows[id] = person{id, m.clock}
		m.exec(m.rows[id].insert())
		m.signIn(id)
		return fmt.Sprintf("%d is somebody new, who signs in", id)
	case n < 8 && exists:
		m.banned[id] = !m.banned[id]
		m.exec(fmt.Sprintf(`update "User" set banned = %t where id = %d`, m.banned[id], id))
		return fmt.Sprintf("%d is banned: %t", id, m.banned[id])
	case n == 8:
		copied := make(map[int]person)
		for id, p := range m.rows {
			copied[id] = p
		}
		m.copies = append(m.copies, copied)
		return "a copy is made"
	case n == 9 && len(m.copies) > 0:
		commands := []string{`begin`, `truncate "User"`}
		m.rows, m.banned = make(map[int]person), make(map[int]bool)
		for id, p := range m.copies[rand.IntN(len(m.copies))] {
			m.rows[id] = p
			commands = append(commands, p.insert())
		}
		m.exec(append(commands, `commit`)...)
		return "a copy is restored"
	case n == 10:
		m.away = true
		if err := m.pg.Kill(); err != nil {
			m.t.Fatal(err)
		}
		return "the database goes away"
	case n == 11 && exists && !m.banned[id]:
		m.signIn(id)
		return fmt.Sprintf("%d signs in once more", id)
	case n == 12:
		s := m.sessions[rand.IntN(len(m.sessions))]
		m.renew(s)
		return fmt.Sprintf("a session of %d is renewed", s.person.id)
	case n > 12 && m.standby != nil:
		m.lags = !m.lags
		if err := m.standby.Exec(m.t.Context(), "postgres", map[bool]string{true: `select pg_wal_replay_pause()`, false: `select pg_wal_replay_resume()`}[m.lags]); err != nil {
			m.t.Fatal(err)
		}
		return fmt.Sprintf("the standby lags: %t", m.lags)
	case n > 12 && m.reads:
		return m.meet(obstacles[rand.IntN(len(obstacles))])
	}
	return ""
}

// meet begins or ends an obstacle. There is one at a time.
func (m *model) meet(next obstacle) string {
	for o := range m.unproven {
		delete(m.unproven, o)
		m.exec(o.end)
		return o.what + " no more"
	}
	m.unproven[next] = true
	m.exec(next.begin)
	return next.what
}

// changeable reports whether the table can be written to by its name.
func (m *model) changeable() bool {
	return m.pg.Exec(m.t.Context(), "postgres", `select from "User" limit 0`) == nil
}

// TestRandomHistories holds the module against a model of what the database
// says, through random changes, outages, restores and reloads. Accounts are
// cached for an hour: what ends a session has to be noticed.
func TestRandomHistories(t *testing.T) {
	for _, triggers := range []bool{false, true} {
		t.Run(fmt.Sprintf("triggers %t", triggers), func(t *testing.T) { randomHistory(t, triggers, false, false) })
	}
	t.Run("a standby before the primary", func(t *testing.T) { randomHistory(t, false, true, false) })
	t.Run("a role that only reads", func(t *testing.T) { randomHistory(t, false, false, true) })
}

func randomHistory(t *testing.T, triggers, behind, reads bool) {
	pg := pgtest.StartFor(t, "wal_level=replica", "max_wal_senders=4")
	m := &model{t: t, pg: pg, reads: reads, unproven: make(map[obstacle]bool), rows: make(map[int]person), banned: make(map[int]bool), clock: time.Now().Add(-90 * 24 * time.Hour).Truncate(time.Second)}
	m.exec(`create table "User" (id int primary key, "createdAt" timestamptz not null, banned boolean not null, email text not null)`)
	if triggers {
		standardapp.InstallTriggers(t, pg.DSN("postgres"))
	}
	// Nobody ever touches this one.
	steady := person{99, m.clock}
	m.exec(steady.insert())
	m.rows[steady.id] = steady
	m.signIn(steady.id)
	steadyCookie := m.sessions[0].cookie

	dsn := pg.DSN("postgres")
	if behind {
		m.exec(`alter system set wal_retrieve_retry_interval = '100ms'`) // the standby's, too
		var err error
		if m.standby, err = pg.Standby(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.standby.Close() })
		dsn = "postgres://postgres@" + m.standby.Address() + "," + pg.Address() + "/postgres?sslmode=disable"
	}
	if reads {
		m.exec(`create role reader login`, `grant select on "User" to reader`)
		dsn = strings.Replace(dsn, "postgres@", "reader@", 1)
	}
	standardapp.Environment(t, dsn)
	t.Setenv("STALE_TEST_PORT", caddytest.FreePort(t))
	app := caddytest.NewApp(t)
	reloads := 0
	load := func() string {
		reloads++
		site := caddytest.Site(fmt.Sprintf("header X-Reload %d", reloads), "stale_session {", "	cache {", "		ttl 1h", "	}", "	poll 20ms", "	timeout 200ms", "	users {", "		match email email", "	}", "}", app.Proxy())
		return strings.Replace(site, ":0", ":{$STALE_TEST_PORT}", 1)
	}
	base := caddytest.Start(t, load())

	// The steady session is used all the time, and never ended.
	var stop atomic.Bool
	var all sync.WaitGroup
	var passed, ended atomic.Int64
	var steps, endedIn atomic.Int64 // how many changes were made, and when it was ended first
	for range 2 {
		all.Go(func() {
			for ; !stop.Load(); time.Sleep(time.Millisecond) { // so that others get the processor
				switch caddytest.Answered(t, base, steadyCookie) {
				case http.StatusOK:
					passed.Add(1)
				case 0: // a connection that a reload has broken
				default:
					ended.Add(1)
					endedIn.CompareAndSwap(0, steps.Load())
				}
			}
		})
	}
	var history []string
	for i := 0; i < 100 && !t.Failed(); i++ {
		what := m.step(1 + rand.IntN(modelIDs))
		if what == "" {
			continue
		}
		if rand.IntN(10) == 0 {
			if err := caddytest.Load(load()); err != nil {
				t.Error(err)
			}
			what += ", and a reload"
		}
		history = append(history, what)
		m.settle(base, history)
		steps.Store(int64(len(history)))
	}
	stop.Store(true)
	all.Wait()
	if ended.Load() > 0 || passed.Load() == 0 {
		first := int(endedIn.Load())
		t.Errorf("of the steady session %d requests passed and %d did not, first in the last change of %q", passed.Load(), ended.Load(), last(history[:min(first+1, len(history))]))
	}
	t.Logf("%d changes, %d reloads, %d sessions; %d requests of the steady one passed", len(history), reloads, len(m.sessions), passed.Load())
}

// settle waits until each session is judged as it should be. Live ones are
// never refused, not even before, unless the last change has made them live: that has
// to be noticed first.
func (m *model) settle(base string, history []string) {
	m.t.Helper()
	if len(m.sessions) > 40 { // the oldest but the steady one
		m.sessions = slices.Delete(m.sessions, 1, len(m.sessions)-39)
	}
	for i := range m.sessions {
		s := &m.sessions[i]
		was, live := s.live, m.live(*s)
		s.live = live
		known := !m.away && !m.lags && len(m.unproven) == 0
		want := map[bool]int{true: http.StatusOK, false: http.StatusUnauthorized}[live]
		deadline := time.Now().Add(5 * time.Minute) // slow machines
		for {
			status := caddytest.Answered(m.t, base, s.cookie)
			if status == want || !known && (!live || was && status == 0) { // nobody is said to be refused; a reload has broken a connection
				break
			}
			if was && live && status != 0 || time.Now().After(deadline) {
				m.t.Errorf("%d, live %t, before %t: status %d, of everything known %t, after %q", s.person.id, live, was, status, known, last(history))
				return
			}
			time.Sleep(time.Millisecond) // between two polls
		}
	}
}

func last(history []string) []string { return history[max(0, len(history)-6):] }
