package main

import (
	"context"
)

// group is a set of targets that are measured in turns, and compared.
type group struct {
	name  string // as in -only
	start func(*bed, context.Context) ([]target, error)
	// anew tells that each round starts its targets anew, and asks with
	// sessions that they have not seen.
	anew bool
	// bases are the targets that the others are compared with, in a table each.
	bases []int
	// connections are how many ask at a time, if others than the option says.
	connections int
}

// groups are all groups, in the order in which they are measured.
var groups = []group{
	{name: "hot", start: (*bed).startHot, bases: []int{0}},
	{name: "cold", start: (*bed).startCold, anew: true, bases: []int{0, 1}, connections: coldConnections},
	{name: "many", start: (*bed).startMany, bases: []int{0, 1}},
	{name: "forward", start: (*bed).startForward, bases: []int{0}},
	{name: "next", start: (*bed).startNext, bases: []int{0}},
}

func groupNames() []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return append(names, "batching", "writers", "notice")
}

// target is a URL that is measured, and the processes that answer it.
type target struct {
	name, url string
	processes []*process // whose CPU counts
	sessions  sessions   // that it is asked with
	checks    bool       // whether it refuses a stale session
	hits      bool       // whether it knows all of its sessions, and hardly asks Postgres
	collects  bool       // whether its collections of garbage are counted
}

// guarded is the module with nothing configured but the guarded routes.
const guarded = "@guarded path /admin* /api/admin*\n\tstale_session @guarded"

// startHot starts what answers a few sessions that are all known.
func (b *bed) startHot(ctx context.Context) ([]target, error) {
	var all []target
	for _, c := range []struct {
		directives string
		targets    []target
	}{
		{"", []target{{name: "plain `reverse_proxy`", url: "/admin"}}},
		{"@guarded path /admin* /api/admin*\n\tbench_nothing @guarded", []target{{name: "a handler that does nothing", url: "/admin"}}},
		{guarded, []target{
			{name: "`stale_session`, guarded route", url: "/admin", checks: true, hits: true},
			{name: "`stale_session`, other route", url: "/page"},
		}},
		{guarded + " {\n\t\tmode off\n\t}", []target{{name: "`mode off`", url: "/admin"}}},
	} {
		base, caddy, err := b.startCaddy(ctx, c.directives, "DATABASE_URL="+b.loggedDSN())
		if err != nil {
			return nil, err
		}
		for _, t := range c.targets {
			t.url, t.processes, t.sessions = base+t.url, []*process{caddy}, b.v4.part(0, few)
			if err := b.warm(ctx, t); err != nil {
				return nil, err
			}
			all = append(all, t)
		}
	}
	return all, nil
}

// loggedDSN is the address of the database for a role whose statements the
// server logs, so that lookups can be counted.
func (b *bed) loggedDSN() string {
	return "postgres://" + loggedRole + "@" + b.postgres.Address() + "/postgres?sslmode=disable"
}
