// Command caddy is Caddy with the stale_session module, for those without
// xcaddy, and for this project's own tests, demo and benchmarks.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-4adef13c/caddy-stale-session"
)

func main() {
	caddycmd.Main()
}
