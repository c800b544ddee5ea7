// Command caddy is cmd/caddy with the handlers that the bench compares the module
// to. BALLAST_MB makes it allocate memory that it does not use: the larger the
// heap, the less often Go collects garbage.
package main

import (
	"os"
	"runtime"
	"strconv"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	_ "github.com/seed-4adef13c/caddy-stale-session/redis"
)

func main() {
	megabytes, _ := strconv.Atoi(os.Getenv("BALLAST_MB")) // none when it is not set
	ballast := make([]byte, megabytes<<20)
	caddycmd.Main()
	runtime.KeepAlive(ballast)
}
