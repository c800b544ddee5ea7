package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
)

// startNext builds and starts an app that checks sessions in its middleware.
func (b *bed) startNext(ctx context.Context) ([]target, error) {
	next := filepath.Join(nodeDir, "node_modules", "next", "dist", "bin", "next")
	app := filepath.Join(nodeDir, "next-app")
	fmt.Println("next build …")
	if _, err := runProgram(ctx, "", "env", "NEXT_TELEMETRY_DISABLED=1", "node", next, "build", app); err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	p, err := b.startServer(ctx, address, []string{"NODE_ENV=production", "NEXT_TELEMETRY_DISABLED=1"},
		"node", next, "start", app, "--hostname", host, "--port", port)
	if err != nil {
		return nil, err
	}
	known := target{processes: []*process{p}, sessions: b.v4.part(0, few)}
	without, with := known, known
	without.name, without.url = "Next.js, a route without the check", "http://"+address+"/open"
	with.name, with.url, with.checks = "Next.js, the check in its middleware", "http://"+address+"/admin", true
	plain, err := b.startWeighed(ctx, "plain `reverse_proxy`", "", known.sessions)
	if err != nil {
		return nil, err
	}
	weighted, module, err := b.startModule(ctx, plain)
	return []target{without, with, plain, weighted, module}, err
}
