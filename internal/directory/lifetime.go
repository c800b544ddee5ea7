package directory

import (
	"context"
	"sync"
	"time"
)

// lifetime is how long a directory is open, and what runs in it beside the
// requests.
type lifetime struct {
	running context.Context // until the end
	stop    context.CancelFunc
	closing sync.Mutex
	ended   sync.WaitGroup
}

func (l *lifetime) begin() { l.running, l.stop = context.WithCancel(context.Background()) }

// end lets nothing more begin. What runs is waited for with l.ended.
func (l *lifetime) end() {
	l.closing.Lock()
	defer l.closing.Unlock()
	l.stop()
}

// background runs a function beside the requests, unless the directory is
// closed.
func (l *lifetime) background(f func()) {
	l.closing.Lock()
	defer l.closing.Unlock()
	if l.running.Err() == nil {
		l.ended.Go(f)
	}
}

// pause waits, and returns false when the directory is closed meanwhile.
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
