package main

import (
	"context"
	"fmt"
)

// startMany starts what knows very many sessions.
func (b *bed) startMany(ctx context.Context) ([]target, error) {
	all := b.v4.part(0, b.options.Sessions)
	plain, err := b.startWeighed(ctx, "plain `reverse_proxy`", "", all)
	if err != nil {
		return nil, err
	}
	fmt.Println("Asking for each session once …")
	module, err := b.startWeighed(ctx, "`stale_session`", fmt.Sprintf("%s {\n\t\tcache {\n\t\t\tttl 1h\n\t\t\tsize %d\n\t\t}\n\t\t%s\n\t}", guarded, b.options.Sessions*6/5, strict), all)
	if err != nil {
		return nil, err
	}
	weighted, err := b.startBallasted(ctx, plain, module)
	return []target{plain, weighted, module}, err
}
