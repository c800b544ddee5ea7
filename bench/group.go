package main

import (
	"context"
	"strings"
)

// group is a set of targets that are measured in turns and compared.
type group struct {
	name  string // as in -only
	start func(*bed, context.Context) ([]target, error)
	// fresh groups start their targets again for each round, with sessions that
	// these have not seen.
	fresh bool
	// tables lists the targets of each table. All are compared with the first.
	tables [][]int
	// others are the alternatives to the module and ours is the module, each
	// with the target that it is compared with: the report says what they add.
	others [][2]int
	ours   [2]int
	// connections overrides the option of that name unless it is 0.
	connections int
}

// groups are all groups, in the order of their measurement.
var groups = []group{
	{name: "hot", start: (*bed).startHot, tables: [][]int{{0, 1, 2, 3, 4, 5}, {3, 4, 5}}},
	{name: "cold", start: (*bed).startCold, fresh: true, tables: [][]int{{0, 1, 2}, {1, 2}}, connections: coldConnections},
	{name: "away", start: (*bed).startAway, fresh: true, tables: [][]int{{0, 1, 2}, {1, 2}}, connections: coldConnections},
	{name: "many", start: (*bed).startMany, tables: [][]int{{0, 1, 2, 3}, {1, 2, 3}}},
	{name: "forward", start: (*bed).startForward, tables: [][]int{{0, 1, 2, 3, 4, 5}, {4, 5}}, others: [][2]int{{1, 0}, {2, 0}, {3, 0}}, ours: [2]int{5, 4}},
	{name: "next", start: (*bed).startNext, tables: [][]int{{0, 1}, {2, 3, 4}, {3, 4}}, others: [][2]int{{1, 0}}, ours: [2]int{4, 3}},
}

// parts are the measurements that are no groups.
var parts = []string{"go", "attack", "batching", "writers", "notice"}

func groupNames() []string {
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	return append(names, parts...)
}

// target is a URL that is measured and the processes that answer it.
type target struct {
	name, url string
	processes []*process // whose CPU counts
	sessions  sessions   // of its requests
	checks    bool       // whether it refuses a stale session
	hits      bool       // whether it caches all of its sessions and hardly asks Postgres
	collects  bool       // whether its garbage collections are counted
}

// guarded is the module with nothing configured but the guarded routes.
const guarded = "@guarded path /admin* /api/admin*\n\tstale_session @guarded"

// startHot starts the targets for a few sessions that are all cached.
func (b *bed) startHot(ctx context.Context) ([]target, error) {
	known := b.v4.part(0, few)
	plain, err := b.startWeighed(ctx, "plain `reverse_proxy`", "", known)
	if err != nil {
		return nil, err
	}
	all := []target{plain}
	for _, c := range []struct{ name, directives string }{
		{"a handler that does nothing", "@guarded path /admin* /api/admin*\n\tbench_nothing @guarded"},
		{"`mode off`", guarded + " {\n\t\tmode off\n\t}"},
	} {
		t, err := b.startWeighed(ctx, c.name, c.directives, known)
		if err != nil {
			return nil, err
		}
		t.hits, t.checks = false, false
		all = append(all, t)
	}
	weighted, module, err := b.startModule(ctx, plain)
	if err != nil {
		return nil, err
	}
	other := module
	module.name += ", guarded route"
	other.name, other.url, other.hits, other.checks = other.name+", other route", strings.TrimSuffix(module.url, "/admin")+"/page", false, false
	return append(all, weighted, module, other), nil
}

// startModule starts the module with nothing configured but the guarded routes,
// and a plain Caddy that collects garbage as rarely.
func (b *bed) startModule(ctx context.Context, plain target) (weighted, module target, err error) {
	if module, err = b.startWeighed(ctx, "`stale_session`", guarded, plain.sessions); err != nil {
		return weighted, module, err
	}
	weighted, err = b.startBallasted(ctx, plain, module)
	return weighted, module, err
}

// loggedDSN returns the address for a role whose statements Postgres logs, so
// that lookups can be counted.
func (b *bed) loggedDSN() string {
	return "postgres://" + loggedRole + "@" + b.postgres.Address() + "/postgres?sslmode=disable"
}
