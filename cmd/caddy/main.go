// Command caddy is Caddy with the stale_session module, for users without xcaddy,
// and for the tests and the demo of this project.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	_ "github.com/seed-4adef13c/caddy-stale-session/redis"
)

func main() {
	caddycmd.Main()
}
