package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// collectAt is the path of bench_memory.
const collectAt = "/memory"

// startWeighed starts a Caddy with bench_memory and sends it each session once.
func (b *bed) startWeighed(ctx context.Context, name, directives string, s sessions, variables ...string) (target, error) {
	t := target{name: name, sessions: s, collects: true, hits: directives != "", checks: directives != ""}
	base, caddy, err := b.startCaddy(ctx, "bench_memory "+collectAt+"\n\t"+directives, append(variables, "DATABASE_URL="+b.loggedDSN())...)
	if err != nil {
		return t, err
	}
	t.url, t.processes = base+"/admin", []*process{caddy}
	return t, b.warm(ctx, t)
}

// startBallasted starts a plain Caddy with a heap as large as a target's: the
// larger the heap, the less often Go collects garbage, whatever fills it.
func (b *bed) startBallasted(ctx context.Context, plain, t target) (target, error) {
	small, err := plain.heap(ctx)
	if err != nil {
		return target{}, err
	}
	large, err := t.heap(ctx)
	if err != nil {
		return target{}, err
	}
	ballast := strconv.Itoa(max(0, large.Live-small.Live) >> 20)
	return b.startWeighed(ctx, "plain `reverse_proxy` with a ballast of "+ballast+" MiB", "", t.sessions, "BALLAST_MB="+ballast)
}

// heap is what bench_memory answers with.
type heap struct {
	Live        int // bytes
	Collections int // so far
}

// heap makes a Caddy collect garbage and returns the state of its heap. It
// returns nothing of other targets.
func (t target) heap(ctx context.Context) (heap, error) {
	if !t.collects {
		return heap{}, nil
	}
	at, err := url.Parse(t.url)
	if err != nil {
		return heap{}, err
	}
	status, body, err := ask(ctx, at.ResolveReference(&url.URL{Path: collectAt}).String(), "")
	if err != nil {
		return heap{}, err
	}
	if status != http.StatusOK {
		return heap{}, fmt.Errorf("%s answers %d %q", collectAt, status, body)
	}
	var h heap
	return h, json.Unmarshal([]byte(body), &h)
}
