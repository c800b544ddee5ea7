package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The sizes of the measurements.
const (
	noticeKnown    = 10_000  // sessions in use meanwhile
	noticeHot      = 100_000 // those that are looked up again while others write
	noticeTrials   = 40
	noticeApart    = 3 * time.Second
	noticeNotified = 300
	noticeIdle     = 20 * time.Second
	noticeBusy     = 8 * time.Second // a session counts as in use for ten
	poll           = 500 * time.Millisecond
)

// noticing is how soon a change is noticed, and what watching costs.
type noticing struct {
	// Polled is of changes now and then and Crowded of one change after another,
	// both without triggers. Notified is with triggers.
	Polled, Crowded, Notified latencies
	// Idle and Busy are the shares of a core that Postgres uses for the watch,
	// without writes and during constant writes. BusyCaddy is the share of Caddy.
	Idle, Busy, BusyCaddy float64
	// Rechecked is how many accounts a second were checked again meanwhile.
	Rechecked float64
	// Known and Hot are how many sessions were in use.
	Known, Hot int
}

// latencies are the latencies of some trials.
type latencies struct {
	Trials        int
	P50, P99, Max time.Duration
}

func latenciesOf(all []time.Duration) latencies {
	slices.Sort(all)
	at := func(share float64) time.Duration {
		return all[min(len(all)-1, int(share*float64(len(all))))].Round(100 * time.Microsecond)
	}
	return latencies{len(all), at(0.5), at(0.99), at(1)}
}

// String implements fmt.Stringer, for the terminal.
func (n noticing) String() string {
	return fmt.Sprintf("nothing installed: p50 %s, p99 %s, max %s of %d; one change after the other: p50 %s, p99 %s, max %s of %d; triggers: p50 %s, p99 %s, max %s of %d\n"+
		"Postgres for the watch: idle %.4f, busy %.4f of a core; Caddy busy %.4f; %.0f accounts checked again a second\n",
		n.Polled.P50, n.Polled.P99, n.Polled.Max, n.Polled.Trials, n.Crowded.P50, n.Crowded.P99, n.Crowded.Max, n.Crowded.Trials, n.Notified.P50, n.Notified.P99, n.Notified.Max, n.Notified.Trials,
		n.Idle, n.Busy, n.BusyCaddy, n.Rechecked)
}

// measureNoticing measures how soon a request of a deleted user is refused, and
// what the watch costs.
func (b *bed) measureNoticing(ctx context.Context) (n noticing, err error) {
	earlier := len(b.processes)
	defer func() { b.stop(earlier) }()
	n.Known, n.Hot = noticeKnown, noticeHot
	t := target{sessions: b.v4.part(0, noticeHot), hits: true}
	base, caddy, err := b.startCaddy(ctx, guarded+" {\n\t\tcache {\n\t\t\tttl 1h\n\t\t\tsize 200000\n\t\t}\n\t}", "DATABASE_URL="+b.loggedDSN())
	if err != nil {
		return n, err
	}
	t.url = base + "/admin"
	conn, err := pgx.Connect(ctx, b.postgres.DSN("postgres"))
	if err != nil {
		return n, err
	}
	defer conn.Close(ctx)

	known := t
	known.sessions = b.v4.part(0, noticeKnown)
	if err := b.warm(ctx, known); err != nil {
		return n, err
	}
	if n.Idle, err = b.idleCost(ctx, conn); err != nil {
		return n, err
	}
	if n.Polled, err = b.delete(ctx, conn, known, noticeTrials, noticeApart); err != nil {
		return n, err
	}
	if n.Crowded, err = b.delete(ctx, conn, known, noticeTrials, 0); err != nil {
		return n, err
	}
	for range 2 { // used twice within a few seconds, they are in use
		if err := b.warm(ctx, t); err != nil {
			return n, err
		}
	}
	if err := b.busyCost(ctx, conn, caddy, &n); err != nil {
		return n, err
	}
	if _, err := runProgram(ctx, ".", b.options.caddy, "stale-session", "install", "--database", b.postgres.DSN("postgres")); err != nil {
		return n, err
	}
	defer func() {
		_, gone := runProgram(ctx, ".", b.options.caddy, "stale-session", "uninstall", "--database", b.postgres.DSN("postgres"))
		err = errors.Join(err, gone)
	}()
	if err := b.warm(ctx, known); err != nil {
		return n, err
	}
	n.Notified, err = b.delete(ctx, conn, known, noticeNotified, 0)
	return n, err
}

// delete deletes users one after the other while all sessions are in use, and
// measures the time from the commit to the first refused request.
func (b *bed) delete(ctx context.Context, conn *pgx.Conn, t target, trials int, apart time.Duration) (latencies, error) {
	using, stop := context.WithCancel(ctx)
	used := make(chan error, 1)
	go func() { used <- b.use(using, t) }()
	var all []time.Duration
	err := func() error {
		for range trials {
			n := rand.IntN(t.sessions.count)
			session, err := t.sessions.mint(subject(n))
			if err != nil {
				return err
			}
			for range 2 { // in use, with this session
				if status, _, err := ask(ctx, t.url, session); err != nil || status != http.StatusOK {
					return errors.Join(err, fmt.Errorf("before the deletion: status %d", status))
				}
			}
			time.Sleep(apart + rand.N(poll)) // at any time between two polls
			row := conn.QueryRow(ctx, `delete from "User" where id = $1 returning email`, subject(n))
			var email string
			if err := row.Scan(&email); err != nil {
				return err
			}
			deleted := time.Now()
			for status := http.StatusOK; status != http.StatusUnauthorized; {
				if status, _, err = ask(ctx, t.url, session); err != nil {
					return err
				}
			}
			all = append(all, time.Since(deleted))
			if _, err := conn.Exec(ctx, `insert into "User" (id, email) values ($1, $2)`, subject(n), email); err != nil {
				return err
			}
			for status := 0; status != http.StatusOK; {
				if status, _, err = ask(ctx, t.url, session); err != nil {
					return err
				}
			}
		}
		return nil
	}()
	stop()
	if err := errors.Join(err, <-used); err != nil {
		return latencies{}, err
	}
	return latenciesOf(all), nil
}

// use sends the sessions of a target again and again. One may be refused while
// its user is deleted.
func (b *bed) use(ctx context.Context, t target) error {
	file, err := os.Open(t.sessions.file)
	if err != nil {
		return err
	}
	defer file.Close()
	for n := 0; ctx.Err() == nil; n = (n + 1) % t.sessions.count {
		session, err := t.sessions.read(file, n)
		if err != nil {
			return err
		}
		if _, _, err := ask(ctx, t.url, session); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// idleCost returns the share of a core that Postgres uses for the watch without
// writes.
func (b *bed) idleCost(ctx context.Context, conn *pgx.Conn) (float64, error) {
	pid, err := watcher(ctx, conn)
	if err != nil {
		return 0, err
	}
	return share(func() (time.Duration, error) { return onCPU(pid) }, func() error { time.Sleep(noticeIdle); return nil })
}

// busyCost measures the watch during constant writes.
func (b *bed) busyCost(ctx context.Context, conn *pgx.Conn, caddy *process, n *noticing) error {
	pid, err := watcher(ctx, conn)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `create table if not exists foreign_writer (n int)`); err != nil {
		return err
	}
	_, place, err := b.lookupsSince(0)
	if err != nil {
		return err
	}
	before, err := onCPU(caddy.Process.Pid)
	if err != nil {
		return err
	}
	began := time.Now()
	n.Busy, err = share(func() (time.Duration, error) { return onCPU(pid) }, func() error {
		for time.Since(began) < noticeBusy {
			if _, err := conn.Exec(ctx, `insert into foreign_writer values (1)`); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	after, err := onCPU(caddy.Process.Pid)
	if err != nil {
		return err
	}
	asked, _, err := b.lookupsSince(place)
	seconds := time.Since(began).Seconds()
	n.BusyCaddy, n.Rechecked = (after-before).Seconds()/seconds, float64(asked.Subjects)/seconds
	if err == nil && asked.Subjects == 0 {
		err = errors.New("no account was checked again during writes")
	}
	return err
}

// watcher returns the process of Postgres that serves the watch.
func watcher(ctx context.Context, conn *pgx.Conn) (pid int, err error) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		err = conn.QueryRow(ctx, `select pid from pg_stat_activity where query like '%pg_current_snapshot%' and pid <> pg_backend_pid()`).Scan(&pid)
		if err == nil {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no connection watches the database: %w", err)
}

// share returns the share of a core that is used while do runs.
func share(used func() (time.Duration, error), do func() error) (float64, error) {
	before, err := used()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return 0, err
	}
	after, err := used()
	return (after - before).Seconds() / time.Since(began).Seconds(), err
}

// onCPU returns how long the threads of a process ran, which is more exact than
// the ticks of cpuTime.
func onCPU(pid int) (time.Duration, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
		if err != nil {
			continue // it has ended meanwhile
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}
