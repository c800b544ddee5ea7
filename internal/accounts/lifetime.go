package accounts

import (
	"context"
	"sync"
	"time"
)

// lifetime bounds what runs in the background.
type lifetime struct {
	running context.Context // done once the engine is closed
	stop    context.CancelFunc
	closing sync.Mutex
	ended   sync.WaitGroup
}

func (l *lifetime) begin() { l.running, l.stop = context.WithCancel(context.Background()) }

// end keeps anything more from starting. Wait for what runs with l.ended.
func (l *lifetime) end() {
	l.closing.Lock()
	defer l.closing.Unlock()
	l.stop()
}

// background runs a function in the background, unless the engine is closed.
func (l *lifetime) background(f func()) {
	l.closing.Lock()
	defer l.closing.Unlock()
	if l.running.Err() == nil {
		l.ended.Go(f)
	}
}

// pause waits, and reports whether the engine is still open.
func (l *lifetime) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.running.Done():
		return false
	}
}
