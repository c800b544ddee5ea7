package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// collectAt is where a Caddy answers with the state of its heap.
const collectAt = "/memory"

// startMany starts what knows very many sessions. Go collects garbage the less
// often the larger the heap is, so there are two plain Caddys: one with a
// ballast that makes its heap as large as the module's.
func (b *bed) startMany(ctx context.Context) ([]target, error) {
	start := func(name, directives string, variables ...string) (target, heap, error) {
		t := target{name: name, sessions: b.v4.part(0, b.options.Sessions), collects: true}
		t.hits = directives != ""
		t.checks = t.hits
		base, caddy, err := b.startCaddy(ctx, "bench_memory "+collectAt+"\n\t"+directives, append(variables, "DATABASE_URL="+b.loggedDSN())...)
		if err != nil {
			return t, heap{}, err
		}
		t.url, t.processes = base+"/admin", []*process{caddy}
		if err := b.warm(ctx, t); err != nil {
			return t, heap{}, err
		}
		h, err := t.heap(ctx)
		return t, h, err
	}
	plain, small, err := start("plain `reverse_proxy`", "")
	if err != nil {
		return nil, err
	}
	fmt.Println("Asking for each session once …")
	module, large, err := start("`stale_session`", fmt.Sprintf("%s {\n\t\tcache {\n\t\t\tttl 1h\n\t\t\tsize %d\n\t\t}\n\t\t%s\n\t}", guarded, b.options.Sessions*6/5, strict))
	if err != nil {
		return nil, err
	}
	ballast := strconv.Itoa(max(0, large.Live-small.Live) >> 20)
	weighted, _, err := start("plain `reverse_proxy` with a ballast of "+ballast+" MiB", "", "BALLAST_MB="+ballast)
	return []target{plain, weighted, module}, err
}

// heap is what bench_memory answers with.
type heap struct {
	Live        int // bytes
	Collections int // so far
}

// heap makes a Caddy collect garbage, and returns the state of its heap; that
// of other targets is empty.
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
