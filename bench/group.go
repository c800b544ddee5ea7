package main

import (
	"context"
	"strings"
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
	{name: "hot", start: (*bed).startHot, bases: []int{0, 3}},
	{name: "cold", start: (*bed).startCold, anew: true, bases: []int{0, 1}, connections: coldConnections},
	{name: "many", start: (*bed).startMany, bases: []int{0, 1}},
	{name: "forward", start: (*bed).startForward, bases: []int{0, 4}},
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
	module, err := b.startWeighed(ctx, "`stale_session`, guarded route", guarded, known)
	if err != nil {
		return nil, err
	}
	other := module
	other.name, other.url, other.hits, other.checks = "`stale_session`, other route", strings.TrimSuffix(module.url, "/admin")+"/page", false, false
	weighted, err := b.startBallasted(ctx, plain, module)
	return append(all, weighted, module, other), err
}

// loggedDSN is the address of the database for a role whose statements the
// server logs, so that lookups can be counted.
func (b *bed) loggedDSN() string {
	return "postgres://" + loggedRole + "@" + b.postgres.Address() + "/postgres?sslmode=disable"
}
