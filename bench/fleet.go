package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
)

// The sizes of the measurements.
const (
	fleetHot    = 20_000  // sessions that every node knows
	fleetMass   = 100_000 // users that one statement deletes
	fleetTrials = 1000
	fleetLost   = time.Minute // what takes longer counts as lost
	fleetFirst  = 300_000     // the person of the first trial
	fleetAhead  = 30          // seconds that a node's clock is ahead
)

// fleet is several Caddys with one database.
type fleet struct {
	b     *bed
	conn  *pgx.Conn
	nodes []fleetNode
}

// fleetNode is a Caddy with an admin endpoint.
type fleetNode struct {
	url    string // of a guarded page
	secure string // of the site, by HTTP/1.1, 2 and 3
	admin  *http.Client
}

// measureFleet measures fleets and prints tables in Markdown.
func (b *bed) measureFleet(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.postgres.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "create extension if not exists pg_stat_statements"); err != nil {
		return err
	}
	if _, err := runProgram(ctx, ".", b.options.caddy, "stale-session", "install", "--database", b.postgres.DSN("postgres")); err != nil {
		return err
	}
	if b.ahead, err = b.buildAhead(ctx, fleetAhead); err != nil {
		return err
	}
	fmt.Printf("%d users, %d sessions known to every node.\n\n", max(people, b.options.Sessions), fleetHot)
	fmt.Println("| nodes | after a flush: requests/s | statements | subjects | subjects a statement | Postgres ms a statement | statements/s | connections |\n|---|---|---|---|---|---|---|---|")
	for _, n := range []int{1, 2, 4} {
		if err := b.withFleet(ctx, conn, n, "", (*fleet).herd); err != nil {
			return err
		}
	}
	fmt.Println()
	if err := b.withFleet(ctx, conn, 4, "", (*fleet).massDeletion); err != nil {
		return err
	}
	if err := b.withFleet(ctx, conn, 4, "", func(f *fleet, ctx context.Context) error {
		return f.trials(ctx, "Postgres", func() error {
			_, err := conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend' and application_name <> 'psql'`)
			return err
		})
	}); err != nil {
		return err
	}
	redis, err := redistest.Start(ctx)
	if err != nil {
		return err
	}
	err = b.withFleet(ctx, conn, 4, " {\n\t\trevocations {\n\t\t\tredis "+redis.URL()+"\n\t\t}\n\t}", func(f *fleet, ctx context.Context) error {
		return f.trials(ctx, "Redis", func() error {
			_, err := redis.Do(ctx, "CLIENT", "KILL", "TYPE", "normal")
			return err
		})
	})
	return errors.Join(err, redis.Close())
}

// withFleet runs a measurement with n nodes, at most four. Each writes the address of
// the database in another way, and the clock of the fourth is ahead.
func (b *bed) withFleet(ctx context.Context, conn *pgx.Conn, n int, options string, measure func(*fleet, context.Context) error) error {
	earlier := len(b.processes)
	defer func() { b.stop(earlier) }()
	f := &fleet{b: b, conn: conn}
	addresses, pooler, err := b.postgres.Addresses(ctx, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = pooler.Close() }()
	for i := range n {
		caddy := b.options.caddy
		if i == len(addresses)-1 {
			caddy = b.ahead
		}
		node, err := b.startNode(ctx, caddy, options, addresses[i])
		if err != nil {
			return err
		}
		f.nodes = append(f.nodes, node)
	}
	return measure(f, ctx)
}

// startNode starts a Caddy of a fleet, with options of the directive and its own
// address of the database.
func (b *bed) startNode(ctx context.Context, caddy, options, database string) (fleetNode, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return fleetNode{}, err
	}
	secure, err := freeAddress(ctx)
	if err != nil {
		return fleetNode{}, err
	}
	name := fmt.Sprintf("node%d", len(b.processes))
	socket := filepath.Join(b.dir, name)
	file, err := b.write(name+".Caddyfile", fmt.Sprintf("{\n\tadmin unix/%s\n\tstorage file_system %s.storage\n\tpersist_config off\n\tauto_https disable_redirects\n\tskip_install_trust\n\tgrace_period 1s\n}\nhttp://%s, https://%s {\n\ttls internal\n\tbench_memory %s\n\t%s\n\treverse_proxy %s\n}\n",
		socket, socket, address, secure, collectAt, guarded+options, b.app))
	if err != nil {
		return fleetNode{}, err
	}
	if _, err := b.startServer(ctx, address, []string{"DATABASE_URL=" + database}, caddy, "run", "--config", file, "--adapter", "caddyfile"); err != nil {
		return fleetNode{}, err
	}
	if err := answers(ctx, "https://"+secure+"/page"); err != nil { // once it has a certificate
		return fleetNode{}, err
	}
	var dialer net.Dialer
	return fleetNode{"http://" + address + "/admin", "https://" + secure, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}, nil
}

// tell sends a POST to the admin endpoint.
func (n fleetNode) tell(ctx context.Context, path, body string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/stale_session/"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	response, err := n.admin.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		return errors.Join(err, fmt.Errorf("%s: %s", path, text))
	}
	return nil
}

// askAll sends each session to every node and counts the responses with a
// status.
func (f *fleet) askAll(ctx context.Context, sessions []string, status int) (int, error) {
	counts := make([]int, askers)
	all, ctx := errgroup.WithContext(ctx)
	for i := range askers {
		all.Go(func() error {
			// Each node gets the sessions in the same order.
			node, each := f.nodes[i%len(f.nodes)], askers/len(f.nodes)
			for n := i / len(f.nodes); n < len(sessions); n += each {
				got, _, err := ask(ctx, node.url, sessions[n])
				if err != nil {
					return err
				}
				if got == status {
					counts[i]++
				}
			}
			return nil
		})
	}
	err := all.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum, err
}

// mintAll returns the sessions of count people.
func (f *fleet) mintAll(first, count int) ([]string, error) {
	sessions := make([]string, count)
	for i := range sessions {
		var err error
		if sessions[i], err = sessionV4(subject(first + i)); err != nil {
			return nil, err
		}
	}
	return sessions, nil
}

// lookups returns the totals of all lookups since pg_stat_statements was reset:
// statements, subjects and milliseconds.
func (f *fleet) lookups(ctx context.Context) (statements, subjects int, ms float64, err error) {
	err = f.conn.QueryRow(ctx, `select coalesce(sum(calls), 0)::int, coalesce(sum(rows), 0)::int, coalesce(sum(total_exec_time), 0)
		from pg_stat_statements where query like '%with ordinality k(subject, ord)%'`).Scan(&statements, &subjects, &ms)
	return statements, subjects, ms, err
}

// herd flushes the caches of all nodes at once and fills them again.
func (f *fleet) herd(ctx context.Context) error {
	sessions, err := f.mintAll(0, fleetHot)
	if err != nil {
		return err
	}
	if err := f.warmAll(ctx, sessions); err != nil {
		return err
	}
	if _, err := f.conn.Exec(ctx, "select pg_stat_statements_reset()"); err != nil {
		return err
	}
	for _, n := range f.nodes {
		if err := n.tell(ctx, "flush", ""); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := f.warmAll(ctx, sessions); err != nil {
		return err
	}
	took := time.Since(began)
	statements, subjects, ms, err := f.lookups(ctx)
	if err != nil {
		return err
	}
	var connections int
	if err := f.conn.QueryRow(ctx, `select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`).Scan(&connections); err != nil {
		return err
	}
	fmt.Printf("| %d | %.0f | %d | %d | %.1f | %.3f | %.0f | %d |\n", len(f.nodes), float64(len(sessions)*len(f.nodes))/took.Seconds(),
		statements, subjects, float64(subjects)/float64(statements), ms/float64(statements), float64(statements)/took.Seconds(), connections)
	return nil
}

func (f *fleet) warmAll(ctx context.Context, sessions []string) error {
	live, err := f.askAll(ctx, sessions, http.StatusOK)
	if err == nil && live != len(sessions)*len(f.nodes) {
		err = fmt.Errorf("%d of %d sessions are live", live, len(sessions)*len(f.nodes))
	}
	return err
}

// massDeletion deletes many users in one statement, all cached ones among them.
func (f *fleet) massDeletion(ctx context.Context) error {
	sessions, err := f.mintAll(0, fleetHot)
	if err != nil {
		return err
	}
	for range 2 { // the engine keeps what is used twice up to date
		if err := f.warmAll(ctx, sessions); err != nil {
			return err
		}
	}
	if _, err := f.conn.Exec(ctx, "select pg_stat_statements_reset()"); err != nil {
		return err
	}
	began := time.Now()
	if _, err := f.conn.Exec(ctx, `delete from "User" where id >= $1 and id < $2`, subject(0), subject(fleetMass)); err != nil {
		return err
	}
	deleted := time.Now()
	var slowest time.Duration
	for i := 0; i < len(sessions); i += len(sessions) / 200 {
		for _, n := range f.nodes {
			for status := 0; status != http.StatusUnauthorized; {
				if status, _, err = ask(ctx, n.url, sessions[i]); err != nil {
					return err
				}
			}
		}
		if i == 0 {
			slowest = time.Since(deleted)
		}
	}
	refused, err := f.askAll(ctx, sessions, http.StatusUnauthorized)
	if err != nil {
		return err
	}
	took := time.Since(deleted)
	statements, subjects, ms, err := f.lookups(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("One DELETE of %d users took %s. All of %d nodes refused the first of them %s later; %d of %d sessions were refused when each was asked for, which took %s. Lookups meanwhile: %d statements of %d subjects, %.0f ms of Postgres altogether.\n\n",
		fleetMass, deleted.Sub(began).Round(time.Millisecond), len(f.nodes), slowest.Round(time.Millisecond), refused, len(sessions)*len(f.nodes), took.Round(time.Millisecond), statements, subjects, ms)
	return nil
}

// trials revokes a session on one node and deletes a user, in turns, and
// measures when every node refuses the session. Four times it closes the nodes'
// connections to what they share.
func (f *fleet) trials(ctx context.Context, name string, cut func() error) error {
	var took [2][]time.Duration
	lost, failed := 0, 0
	for trial := range fleetTrials {
		person := fleetFirst + trial
		if name == "Redis" {
			person += fleetTrials
		}
		session, err := sessionV4(subject(person))
		if err != nil {
			return err
		}
		for _, n := range f.nodes {
			if status, _, err := ask(ctx, n.url, session); err != nil || status != http.StatusOK {
				return errors.Join(err, fmt.Errorf("before trial %d: status %d", trial, status))
			}
		}
		if trial%(fleetTrials/4) == fleetTrials/8 {
			if err := cut(); err != nil {
				return err
			}
		}
		began := time.Now()
		if kind := trial % 2; kind == 0 {
			if err := f.nodes[trial%len(f.nodes)].tell(ctx, "revoke", fmt.Sprintf(`{"subject":%q}`, subject(person))); err != nil {
				failed++ // the node retries
			}
		} else if _, err := f.conn.Exec(ctx, `delete from "User" where id = $1`, subject(person)); err != nil {
			return err
		}
		ended := time.Now()
		if trial%2 == 0 {
			ended = began
		}
		each := make([]time.Duration, len(f.nodes))
		var all errgroup.Group
		for i, n := range f.nodes {
			all.Go(func() error {
				for {
					status, _, err := ask(ctx, n.url, session)
					if each[i] = time.Since(ended); err != nil || status == http.StatusUnauthorized || each[i] > fleetLost {
						return err
					}
				}
			})
		}
		if err := all.Wait(); err != nil {
			return err
		}
		last := slices.Max(each)
		if took[trial%2] = append(took[trial%2], last); last > fleetLost {
			lost++
		}
	}
	fmt.Printf("%d trials, revocations shared through %s: lost %d; the revoking node could not share %d at once and retried.\n\n", fleetTrials, name, lost, failed)
	histogram("revoked on one node, refused on all", took[0])
	histogram("deleted in Postgres, refused on all", took[1])
	return nil
}

// histogram prints the distribution of durations.
func histogram(name string, all []time.Duration) {
	l := latenciesOf(all)
	head, line, values := "| "+name, "|---", "| trials"
	counted := 0
	for _, ms := range []int64{2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, fleetLost.Milliseconds()} {
		n := 0
		for _, took := range all {
			if took.Milliseconds() < ms {
				n++
			}
		}
		head += fmt.Sprintf(" | < %d ms", ms)
		line += "|---"
		values += fmt.Sprintf(" | %d", n-counted)
		counted = n
	}
	fmt.Println(strings.Join([]string{head + " |", line + "|", values + " |"}, "\n"))
	fmt.Printf("\np50 %s, p99 %s, max %s\n\n", l.P50, l.P99, l.Max)
}
