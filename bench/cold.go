package main

import "context"

// coldConnections are many connections, as after a start or a deployment.
const coldConnections = 64

// strict makes the module pass only sessions that it has checked, so that an
// unchecked request does not count as answered.
const strict = "on_error deny\n\t\trequire_session"

// startCold starts targets with empty caches.
func (b *bed) startCold(ctx context.Context) ([]target, error) {
	return b.startUnseen(ctx, b.postgres.DSN("postgres"))
}

// startAway starts targets with empty caches and a remote database.
func (b *bed) startAway(ctx context.Context) ([]target, error) {
	if b.far == "" {
		var err error
		if b.far, b.endFar, err = relay(ctx, b.postgres.Address(), away); err != nil {
			return nil, err
		}
	}
	return b.startUnseen(ctx, "postgres://postgres@"+b.far+"/postgres?sslmode=disable")
}

func (b *bed) startUnseen(ctx context.Context, dsn string) ([]target, error) {
	var all []target
	for _, c := range []struct {
		target
		directives string
	}{
		{target{name: "plain `reverse_proxy`"}, ""},
		{target{name: "one query a request", checks: true}, "bench_query"},
		{target{name: "`stale_session`, sessions never seen", checks: true}, guarded + " {\n\t\t" + strict + "\n\t}"},
	} {
		base, caddy, err := b.startCaddy(ctx, c.directives, "DATABASE_URL="+dsn)
		if err != nil {
			return nil, err
		}
		t := c.target
		t.url, t.processes, t.sessions = base+"/admin", []*process{caddy}, b.v4.part(0, b.coldSessions())
		all = append(all, t)
	}
	return all, nil
}

// coldSessions returns how many sessions a target gets in a round, each once.
func (b *bed) coldSessions() int { return perSecond * (warmUp + b.options.Seconds) }
