package revocation

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func TestAFailoverInAClusterLosesNoRevocation(t *testing.T) {
	c := startCluster(t)
	f := fleet{t, inRedis(c.Primaries[1].URL())}
	nodes := []*List{f.node(), f.node()}
	revoke := func(subject string) {
		eventually.Holds(t, subject+" is revoked in the cluster", func() bool {
			_ = nodes[0].Revoke(t.Context(), Revocation{Subject: subject, At: time.Now()}) // pending while it fails
			_, found := nodes[1].Find([]byte(subject))
			return found
		})
	}
	for i := range 20 { // on all servers
		revoke(fmt.Sprint("before", i))
	}
	if err := c.Primaries[0].Kill(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		revoke(fmt.Sprint("after", i))
	}
	nodes = append(nodes, f.node())
	for n, node := range nodes {
		for i := range 20 {
			for _, when := range []string{"before", "after"} {
				subject := fmt.Sprint(when, i)
				eventually.Holds(t, fmt.Sprintf("node %d knows %s", n, subject), func() bool { _, found := node.Find([]byte(subject)); return found })
			}
		}
	}
}

// A revocation under one name of the users is under the others, too, once these are
// known: also on the primary that has a replica, which holds the same keys.
func TestEveryServerOfAClusterHasRevocationsByAllNames(t *testing.T) {
	c := startCluster(t)
	open := func(name string) Remote { return openRedis(t, c.Primaries[1].URL(), name, 0) }
	var before []Revocation
	for i := range 20 { // on all servers
		before = append(before, Revocation{Subject: fmt.Sprint(i), At: time.Now()})
	}
	if err := open("one").Put(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	id, err := c.Replica.ID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "clients know the replica, which has the keys of its primary", func() bool {
		nodes, err := c.Primaries[1].Do(t.Context(), "CLUSTER", "SLOTS")
		size, err1 := c.Primaries[0].Do(t.Context(), "DBSIZE")
		copied, err2 := c.Replica.Do(t.Context(), "DBSIZE")
		return errors.Join(err, err1, err2) == nil && strings.Contains(nodes, id) && size != ":0\r\n" && copied == size
	})
	one, other := open("one"), open("other")
	one.Use(func(context.Context) string { return "other" })
	f := fleet{t, func(*testing.T) Store { return one }}
	f.node()
	late := fleet{t, func(*testing.T) Store { return other }}.node()
	for _, r := range before {
		eventually.Holds(t, r.Subject+" is known by the other name", func() bool { return knows(late, r.Subject) })
	}
}

func TestPendingRevocationsAreReplayedWhenRedisRecovers(t *testing.T) {
	redis := startRedis(t)
	f := fleet{t, inRedis(redis.URL())}
	a, b := f.node(), f.node()
	if err := a.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	known := func(l *List, subject string) bool { _, found := l.Find([]byte(subject)); return found }
	eventually.Holds(t, "both nodes know", func() bool { return known(b, "ada") })

	if err := redis.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "both nodes are out of sync", func() bool { return a.OutOfSync() && b.OutOfSync() })
	if !known(a, "ada") || !known(b, "ada") {
		t.Error("a node has forgotten a revocation")
	}
	if err := a.Revoke(t.Context(), Revocation{Subject: "bob", At: time.Now()}); err == nil {
		t.Error("no error although Redis is down")
	}
	if !known(a, "bob") {
		t.Error("not in effect on its own node")
	}
	if err := redis.Restart(t.Context()); err != nil { // empty
		t.Fatal(err)
	}
	eventually.Holds(t, "the other node knows", func() bool { return known(b, "bob") })
	eventually.Holds(t, "a new node knows what Redis lost", func() bool { c := f.node(); return known(c, "ada") && known(c, "bob") })
}

// The connection to a Redis that rejects writes is not lost.
func TestPendingRevocationsAreReplayedWhenRedisAcceptsWritesAgain(t *testing.T) {
	redis := startRedis(t)
	f := fleet{t, inRedis(redis.URL())}
	for name, c := range map[string]struct {
		begin, end []string
		says       string
	}{
		"out of memory": {[]string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"}, "out of memory"},
		"replica":       {[]string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"}, "a replica"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := f.node(), f.node()
			do(t, redis, c.begin...)
			if err := a.Revoke(t.Context(), Revocation{Subject: name, At: time.Now()}); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %q", err, c.says)
			}
			if !a.OutOfSync() || b.OutOfSync() {
				t.Errorf("out of sync: %t and %t, want true and false", a.OutOfSync(), b.OutOfSync())
			}
			do(t, redis, c.end...)
			eventually.Holds(t, "the other node knows", func() bool { _, found := b.Find([]byte(name)); return found })
			eventually.Holds(t, "the node is in sync again", func() bool { return !a.OutOfSync() })
		})
	}
}

// Of two nodes that restore what Redis has lost, the one with the older state may
// be the last.
func TestAnOlderStateInRedisIsOverwritten(t *testing.T) {
	redis := startRedis(t)
	open := inRedis(redis.URL())
	key := keyPrefix("users") + "sada"
	f := fleet{t, open}
	a := f.node()
	for name, write := range map[string]func(older string){
		"connected": func(older string) { do(t, redis, "SET", key, older) },
		"disconnected": func(older string) {
			do(t, redis, "SET", key, older)
			do(t, redis, "CLIENT", "KILL", "TYPE", "normal")
		},
	} {
		t.Run(name, func(t *testing.T) {
			older := "-" + strconv.FormatInt(time.Now().UnixMicro()-1, 10)
			eventually.Holds(t, "the sessions are revoked", func() bool { return a.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}) == nil })
			write(older)
			eventually.Holds(t, "Redis has the latest state", func() bool {
				text, err := redis.Do(t.Context(), "GET", key)
				return err == nil && strings.HasPrefix(text, "$16")
			})
			if _, found := f.node().Find([]byte("ada")); !found {
				t.Error("a new node does not know the revocation")
			}
		})
	}
}

// Clocks are more precise than stores, and each node also reads its own writes.
func TestARevocationIsWrittenOnce(t *testing.T) {
	redis := startRedis(t)
	f := fleet{t, inRedis(redis.URL())}
	a, b := f.node(), f.node()
	const users = 20
	for i := range users {
		user := fmt.Sprint("user", i)
		at := time.Now().Truncate(time.Microsecond).Add(999)
		if err := a.Revoke(t.Context(), Revocation{Subject: user, At: at}); err != nil {
			t.Fatal(err)
		}
		eventually.Holds(t, "the other node knows", func() bool { _, found := b.Find([]byte(user)); return found })
	}
	if err := a.Restore(t.Context(), "user0", time.Now().Add(time.Second).Truncate(time.Microsecond).Add(999)); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the other node knows", func() bool { _, found := b.Find([]byte("user0")); return !found })
	text, err := redis.Do(t.Context(), "INFO", "commandstats")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("cmdstat_set:calls=%d,", users+1); !strings.Contains(text, want) {
		_, calls, _ := strings.Cut(text, "cmdstat_set:")
		t.Errorf("%d changes, cmdstat_set:%.20s", users+1, calls)
	}
}

// Other keys with the prefix revoke nothing, and keep no node from reading
// revocations.
func TestInvalidValuesInRedisAreIgnored(t *testing.T) {
	redis := startRedis(t)
	open := inRedis(redis.URL())
	prefix := keyPrefix("users")
	year := strconv.FormatInt(time.Now().Add(365*24*time.Hour).UnixMicro(), 10)
	write := func() {
		do(t, redis, "RPUSH", prefix+"slist", "x")
		do(t, redis, "HSET", prefix+"shash", "x", "y")
		do(t, redis, "SET", prefix+"sgarbage", "\x00\xff")
		do(t, redis, "SET", prefix+"shuge", strings.Repeat("9", 30))
		do(t, redis, "SET", prefix+"sahead", year)
		do(t, redis, "SET", prefix+"sbehind", "-"+year)
	}
	write()
	f := fleet{t, open}
	a, b := f.node(), f.node()
	do(t, redis, "DEL", prefix+"slist", prefix+"shash")
	write() // again, now that the nodes follow
	if err := a.Revoke(t.Context(), Revocation{Subject: "ada", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the other node knows", func() bool { _, found := b.Find([]byte("ada")); return found })
	c := f.node()
	for _, node := range []*List{a, b, c} {
		if all := AllOf([]*List{node}); len(all) != 1 || node.OutOfSync() {
			t.Errorf("revoked: %v; out of sync: %t", all, node.OutOfSync())
		}
	}
	for _, subject := range []string{"list", "ahead", "behind"} { // which have invalid values
		if err := a.Revoke(t.Context(), Revocation{Subject: subject, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		eventually.Holds(t, "the other node knows "+subject, func() bool { _, found := b.Find([]byte(subject)); return found })
	}
}
