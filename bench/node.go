package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// nodeDir is where what runs in Node is.
const nodeDir = "bench/node"

// installNode installs the packages that package-lock.json names, unless they
// are already there.
func installNode(ctx context.Context) error {
	lock, err := os.Stat(filepath.Join(nodeDir, "package-lock.json"))
	if err != nil {
		return err
	}
	installed, err := os.Stat(filepath.Join(nodeDir, "node_modules", ".package-lock.json"))
	if err == nil && installed.ModTime().After(lock.ModTime()) {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_, err = runProgram(ctx, nodeDir, "npm", "ci", "--no-audit", "--no-fund")
	return err
}

// startForward starts what can stand before an app to check the same sessions.
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

// startService starts a service for forward_auth, and returns its address.
func (b *bed) startService(ctx context.Context, library string) (string, *process, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return "", nil, err
	}
	p, err := b.startServer(ctx, address, []string{"LIBRARY=" + library, "LISTEN=" + address, "NODE_ENV=production"},
		"node", filepath.Join(nodeDir, "forward-auth.mjs"))
	return address, p, err
}
