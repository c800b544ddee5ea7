package telemetry

import (
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"golang.org/x/time/rate"
)

// prefix is that of the names of events of Caddy's.
const prefix = "stale_session."

// Bounds of events of Caddy's, whose handlers may send mails or run programs.
var (
	detectionRate = rate.NewLimiter(10, 100)
	underWay      = make(chan struct{}, 100)
)

// emitter emits events of Caddy's.
type emitter struct {
	app     *caddyevents.App
	context caddy.Context // the handler's, which events need to know their origin
}

// emit emits an event. Its handlers run beside what has caused it, which must
// not wait for them; with too many under way it is left out.
func (e *emitter) emit(name string, details map[string]any) {
	if e == nil || !e.app.ShouldEmit(prefix+name) {
		return
	}
	select {
	case underWay <- struct{}{}:
		go func() {
			defer func() { <-underWay }()
			e.app.Emit(e.context, prefix+name, details)
		}()
	default:
	}
}

// emitters are those of the handlers in use.
var emitters struct {
	sync.Mutex
	all map[*Reporter]*emitter
}

// anyEmitter returns the emitter of some handler, nil when none has one: what
// happens to a directory concerns several.
func anyEmitter() *emitter {
	emitters.Lock()
	defer emitters.Unlock()
	for _, e := range emitters.all {
		return e
	}
	return nil
}

// listen makes the emitter of a handler known until it is closed.
func (p *Reporter) listen() {
	if p.detections.Events == nil {
		return
	}
	emitters.Lock()
	defer emitters.Unlock()
	if emitters.all == nil {
		emitters.all = make(map[*Reporter]*emitter)
	}
	emitters.all[p] = &emitter{p.detections.Events, p.detections.Context}
}

// Close ends what the reporter does beside requests.
func (p *Reporter) Close() {
	emitters.Lock()
	defer emitters.Unlock()
	delete(emitters.all, p)
}
