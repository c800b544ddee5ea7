package main

import (
	"context"
	"fmt"
)

// memoryLimit is the GOMEMLIMIT in MiB of one of the targets with a million
// sessions.
const memoryLimit = 300

// startMany starts targets that cache very many sessions, with and without a
// memory limit.
func (b *bed) startMany(ctx context.Context) ([]target, error) {
	all := b.v4.part(0, b.options.Sessions)
	plain, err := b.startWeighed(ctx, "plain `reverse_proxy`", "", all)
	if err != nil {
		return nil, err
	}
	fmt.Println("Sending each session once, twice …")
	directives := fmt.Sprintf("%s {\n\t\tcache {\n\t\t\tttl 1h\n\t\t\tsize %d\n\t\t}\n\t\t%s\n\t}", guarded, b.options.Sessions, strict)
	module, err := b.startWeighed(ctx, "`stale_session`", directives, all)
	if err != nil {
		return nil, err
	}
	limit := fmt.Sprintf("%dMiB", max(64, memoryLimit*b.options.Sessions/1_000_000))
	bounded, err := b.startWeighed(ctx, "`stale_session`, `GOMEMLIMIT="+limit+"`", directives, all, "GOMEMLIMIT="+limit)
	if err != nil {
		return nil, err
	}
	// The other's test of notifications is a commit: everybody is looked up once more.
	if err := b.warm(ctx, module); err != nil {
		return nil, err
	}
	small, err := plain.heap(ctx)
	if err != nil {
		return nil, err
	}
	large, err := module.heap(ctx)
	if err != nil {
		return nil, err
	}
	b.perSession = (large.Live - small.Live) / b.options.Sessions
	fmt.Printf("The heap takes %d bytes more for each session.\n", b.perSession)
	weighted, err := b.startBallasted(ctx, plain, module)
	return []target{plain, weighted, module, bounded}, err
}
