package provision

import (
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// Lent is what a handler has taken for its requests. They keep it as long as
// they need it, also when the handler is cleaned up meanwhile: a reload does not
// wait for the requests under way. The zero value holds nothing.
type Lent struct {
	Held

	borrowers atomic.Int64 // -1 once everything was given back
}

// Borrow lets a request use what is held, until it calls Return. It returns
// false when everything was given back.
func (l *Lent) Borrow() bool {
	for {
		n := l.borrowers.Load()
		if n < 0 {
			return false
		}
		if l.borrowers.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Return ends what Borrow began.
func (l *Lent) Return() {
	if l.borrowers.Add(-1) >= 0 {
		return
	}
	go func() { // which the request need not wait for
		if err := l.Held.Release(); err != nil {
			caddy.Log().Named("http.handlers.stale_session").Error("what the last request of a former configuration has used cannot be closed", zap.Error(err))
		}
	}()
}

// Release gives everything back once no request uses it any more. It returns
// the error of doing so at once.
func (l *Lent) Release() error {
	if l.borrowers.Add(-1) >= 0 {
		return nil
	}
	return l.Held.Release()
}
