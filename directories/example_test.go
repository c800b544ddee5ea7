package directories_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// table stands for any database that counts its commits.
type table struct {
	mu      sync.Mutex
	commits int
	users   map[string]directories.Account
}

// commit changes the table, or anything else in its database.
func (t *table) commit(change func(users map[string]directories.Account)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t.users)
	t.commits++
}

// directory looks users up in a table.
type directory struct{ table *table }

// String implements directories.Directory.
func (d *directory) String() string { return "table of users" }

// Lookup implements directories.Directory and directories.Gate. A directory with
// replicas would ask the primary if a query has Since.
func (d *directory) Lookup(_ context.Context, queries []directories.Query) ([]directories.Account, error) {
	d.table.mu.Lock()
	defer d.table.mu.Unlock()
	accounts := make([]directories.Account, len(queries))
	for i, q := range queries {
		accounts[i] = d.table.users[string(q.Subject)] // the zero value if there is none
	}
	return accounts, nil
}

// Watch implements directories.Watcher. It has nothing to report by itself: the
// gate tells that something has changed.
func (d *directory) Watch(context.Context, func(subjects ...string)) (directories.Watch, error) {
	return &gate{d}, nil
}

// gate is the open connection that watches a table.
type gate struct{ *directory }

// Read implements directories.Gate.
func (g *gate) Read(context.Context) (directories.Reading, error) {
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	return directories.Reading{Value: strconv.Itoa(g.table.commits)}, nil
}

// Wait implements directories.Watch. A database with notifications would report
// them here.
func (g *gate) Wait(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Close implements directories.Watch.
func (g *gate) Close() error { return nil }

// Interface guards
var (
	_ directories.Watcher = (*directory)(nil)
	_ directories.Gate    = (*gate)(nil)
)

// A directory of one's own, with a gate. A module that opens it is a
// directories.Module.
func Example() {
	d := &directory{&table{users: map[string]directories.Account{"ada": {Exists: true}}}}
	accounts, err := d.Lookup(context.Background(), []directories.Query{{Subject: []byte("ada")}, {Subject: []byte("bob")}})
	fmt.Println(accounts[0].Exists, accounts[1].Exists, err)
	// Output: true false <nil>
}
