// Package deadline bounds what a request waits for, without a cost for the
// requests that wait for nothing.
package deadline

import (
	"context"
	"time"
)

// How long a directory may take. Tests that share a slow machine with others set
// more.
var (
	// Query bounds a lookup, which goes on when no request waits any more.
	Query = 2 * time.Second
	// Lock bounds how long it waits for a lock on a table.
	Lock = 500 * time.Millisecond
	// Connect bounds an attempt to connect.
	Connect = 3 * time.Second
)

// Context is a context with a deadline whose timer starts when somebody waits.
// It is used by one goroutine, and must not be copied. Set it before use.
type Context struct {
	parent  context.Context
	at      time.Time
	context context.Context // once somebody waits
	cancel  context.CancelFunc
}

// Set sets the parent and the deadline, and ends what the context was before.
func (c *Context) Set(parent context.Context, at time.Time) {
	c.End()
	c.parent, c.at = parent, at
}

// End releases the timer. The context can be set again.
func (c *Context) End() {
	if c.cancel != nil {
		c.cancel()
		c.context, c.cancel = nil, nil
	}
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) {
	if at, ok := c.parent.Deadline(); ok && at.Before(c.at) {
		return at, true
	}
	return c.at, true
}

// Done implements context.Context. It starts the timer.
func (c *Context) Done() <-chan struct{} {
	if c.context == nil {
		c.context, c.cancel = context.WithDeadline(c.parent, c.at)
	}
	return c.context.Done()
}

// Err implements context.Context.
func (c *Context) Err() error {
	if c.context != nil {
		return c.context.Err()
	}
	if err := c.parent.Err(); err != nil {
		return err
	}
	if !time.Now().Before(c.at) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context.
func (c *Context) Value(key any) any { return c.parent.Value(key) }
