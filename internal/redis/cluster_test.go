package redis

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
)

// cluster has at least ten users on each of three primaries.
type cluster struct {
	*redistest.Cluster
	users map[*redistest.Server][]string
}

func startCluster(t *testing.T) cluster {
	t.Helper()
	c, err := redistest.StartCluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	users := make(map[*redistest.Server][]string)
	for i := 0; len(users[c.Primaries[0]]) < 10 || len(users[c.Primaries[1]]) < 10 || len(users[c.Primaries[2]]) < 10; i++ {
		subject := fmt.Sprint(i)
		for _, s := range c.Primaries {
			answer, err := s.Do(t.Context(), "SET", "user:"+subject, `{"id":"`+subject+`"}`)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(answer, "+OK") { // not MOVED
				users[s] = append(users[s], subject)
			}
		}
	}
	return cluster{c, users}
}

// verdicts counts the verdicts on all users.
func (c cluster) verdicts(t *testing.T, d *accounts.Engine) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for _, subjects := range c.users {
		for _, subject := range subjects {
			counts[verdict(t, d, subject)]++
		}
	}
	return counts
}

func (c cluster) all() (n int) {
	for _, subjects := range c.users {
		n += len(subjects)
	}
	return n
}

// delete deletes a user on a server, and waits until that is noticed.
func (c cluster) delete(t *testing.T, d *accounts.Engine, s *redistest.Server, subject string) {
	t.Helper()
	do(t, s, "DEL user:"+subject)
	eventually.Holds(t, "the deletion of "+subject+" is noticed", func() bool { return verdict(t, d, subject) == "gone" })
}

func TestUsersInAClusterOfSeveralServers(t *testing.T) {
	c := startCluster(t)
	d := open(t, c.Primaries[1].URL(), Config{})
	eventually.Holds(t, "changes are noticed", func() bool { return verdict(t, d, "nobody") == "gone" && d.Stats().Watching })
	if got := c.verdicts(t, d); got["live"] != c.all() {
		t.Fatalf("%d users: %v", c.all(), got)
	}
	for s, subjects := range c.users {
		c.delete(t, d, s, subjects[0])
		c.users[s] = subjects[1:]
	}
	if got := c.verdicts(t, d); got["live"] != c.all() {
		t.Errorf("%d remaining users: %v", c.all(), got)
	}
}

func TestReshardingEndsNoSession(t *testing.T) {
	c := startCluster(t)
	from, to := c.Primaries[2], c.Primaries[0]
	subject := c.users[from][0]
	d := open(t, c.Primaries[1].URL(), Config{})
	eventually.Holds(t, "changes are noticed", func() bool { return verdict(t, d, subject) == "live" && d.Stats().Watching })
	slot, err := from.Do(t.Context(), "CLUSTER", "KEYSLOT", "user:"+subject)
	if err != nil {
		t.Fatal(err)
	}
	slot = strings.Trim(slot, ":\r\n")
	source, err := from.ID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	target, err := to.ID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(to.Address(), ":")
	for _, step := range []struct {
		server  *redistest.Server
		command string
	}{
		{to, "CLUSTER SETSLOT " + slot + " IMPORTING " + source},
		{from, "CLUSTER SETSLOT " + slot + " MIGRATING " + target},
		{from, "MIGRATE " + host + " " + port + " user:" + subject + " 0 5000"},
		{to, "CLUSTER SETSLOT " + slot + " NODE " + target},
		{from, "CLUSTER SETSLOT " + slot + " NODE " + target},
	} {
		do(t, step.server, step.command)
		d.Flush()
		if got := verdict(t, d, subject); got == "gone" {
			t.Fatalf("an existing user is gone after %s", step.command)
		}
	}
	eventually.Holds(t, "the user is found on the new server", func() bool { return verdict(t, d, subject) == "live" })
	c.delete(t, d, to, subject)
}

func TestAFailoverInAClusterEndsNoSession(t *testing.T) {
	c := startCluster(t)
	first := c.Primaries[0]
	eventually.Holds(t, "the replica has the users", func() bool {
		size, err := first.Do(t.Context(), "DBSIZE")
		size2, err2 := c.Replica.Do(t.Context(), "DBSIZE")
		return err == nil && err2 == nil && size == size2
	})
	d := open(t, c.Primaries[1].URL(), Config{})
	eventually.Holds(t, "changes are noticed", func() bool { return verdict(t, d, "nobody") == "gone" && d.Stats().Watching })
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the replica has taken over", func() bool {
		d.Flush() // so that all are looked up
		counts := c.verdicts(t, d)
		if counts["gone"] > 0 {
			t.Fatalf("existing users are gone: %v", counts)
		}
		return counts["live"] == c.all()
	})
	eventually.Holds(t, "changes are noticed again", func() bool { return d.Stats().Watching })
	c.delete(t, d, c.Replica, c.users[first][0])
	for _, s := range c.Primaries[1:] {
		c.delete(t, d, s, c.users[s][0])
	}
}
