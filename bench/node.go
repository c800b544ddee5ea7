package main

import (
	"context"
	"path/filepath"
)

// nodeDir has the programs that run in Node.
const nodeDir = "bench/node"

// startForward starts other handlers that check the same sessions.
func (b *bed) startForward(ctx context.Context) ([]target, error) {
	v4 := b.v4.part(0, few)
	v5, err := writeSessions(filepath.Join(b.dir, "v5"), few, sessionV5)
	if err != nil {
		return nil, err
	}
	plain, err := b.startWeighed(ctx, "plain `reverse_proxy`", "", v4)
	if err != nil {
		return nil, err
	}
	all := []target{plain}
	for _, c := range []struct {
		target
		directives, library string
	}{
		{target{name: "one query a request, in Go within Caddy", sessions: v4, checks: true}, "bench_query", ""},
		{target{name: "`forward_auth` to Node, next-auth v4", sessions: v4, checks: true}, "forward_auth", "next-auth"},
		{target{name: "`forward_auth` to Node, Auth.js v5", sessions: v5, checks: true}, "forward_auth", "@auth/core"},
	} {
		t := c.target
		if c.library != "" {
			address, service, err := b.startService(ctx, c.library)
			if err != nil {
				return nil, err
			}
			c.directives += " " + address + " {\n\t\turi /\n\t}"
			t.processes = append(t.processes, service)
		}
		base, caddy, err := b.startCaddy(ctx, c.directives)
		if err != nil {
			return nil, err
		}
		t.url, t.processes = base+"/admin", append(t.processes, caddy)
		if err := b.warm(ctx, t); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	weighted, module, err := b.startModule(ctx, plain)
	return append(all, weighted, module), err
}

// startService starts a service for forward_auth and returns its address.
func (b *bed) startService(ctx context.Context, library string) (string, *process, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return "", nil, err
	}
	p, err := b.startServer(ctx, address, []string{"LIBRARY=" + library, "LISTEN=" + address, "NODE_ENV=production"},
		"node", filepath.Join(nodeDir, "forward-auth.mjs"))
	return address, p, err
}
