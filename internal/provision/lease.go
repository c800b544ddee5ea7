package provision

import (
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// Lease is what a handler has acquired for its requests. They use it for as
// long as they need, also if the handler is cleaned up meanwhile: a reload does
// not wait for requests. The zero value holds nothing.
type Lease struct {
	Resources

	users atomic.Int64 // -1 once everything was released
}

// Acquire lets a request use what the lease holds, until it calls Release. It
// reports false if everything was released.
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

// Release ends what Acquire began.
func (l *Lease) Release() {
	if l.users.Add(-1) >= 0 {
		return
	}
	go func() { // the request need not wait for this
		if err := l.Resources.Release(); err != nil {
			caddy.Log().Named("http.handlers.stale_session").Error("closing the connections of a replaced configuration failed", zap.Error(err))
		}
	}()
}

// End releases everything once no request uses it any more. It returns the error
// of doing so at once.
func (l *Lease) End() error {
	if l.users.Add(-1) >= 0 {
		return nil
	}
	return l.Resources.Release()
}
