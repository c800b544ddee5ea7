package provision

import (
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// Lease holds the resources that requests use. They stay open until the last
// request ends, even if the handler is cleaned up before: a reload does not wait
// for requests. The zero value holds nothing.
type Lease struct {
	Resources

	users atomic.Int64 // requests in flight; -1 after the release
}

// Acquire keeps the resources open until Release. It reports false if they were
// released already.
func (l *Lease) Acquire() bool {
	for {
		n := l.users.Load()
		if n < 0 {
			return false
		}
		if l.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Ended reports whether the resources were released.
func (l *Lease) Ended() bool { return l.users.Load() < 0 }

// Release ends a successful Acquire.
func (l *Lease) Release() {
	if l.users.Add(-1) >= 0 {
		return
	}
	go func() { // so that the request does not wait
		if err := l.Resources.Release(); err != nil {
			caddy.Log().Named("http.handlers.stale_session").Error("cannot close the connections of a replaced configuration", zap.Error(err))
		}
	}()
}

// End releases the resources once no request uses them. It returns the error if
// that is at once.
func (l *Lease) End() error {
	if l.users.Add(-1) >= 0 {
		return nil
	}
	return l.Resources.Release()
}
