package telemetry

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// eventPrefix begins the names of our Caddy events.
const eventPrefix = "stale_session."

// Limits on Caddy events: their handlers may send mail or run programs.
var (
	detectionLimit = rate.NewLimiter(10, 100)
	inFlight       = make(chan struct{}, 100)
)

// emitter emits Caddy events for a handler.
type emitter struct {
	app     *caddyevents.App
	context caddy.Context // of the handler, the origin of the events
	started atomic.Bool   // the events app has all its subscriptions, so it can be read
}

// newEmitter returns an emitter that emits nothing until the configuration has
// started. Before that, subscribing writes to the events app without a lock.
func newEmitter(app *caddyevents.App, origin caddy.Context) (*emitter, error) {
	e := &emitter{app: app, context: origin}
	return e, app.On("started", e)
}

// Handle implements caddyevents.Handler. It receives Caddy's event "started".
func (e *emitter) Handle(context.Context, caddy.Event) error {
	e.started.Store(true)
	return nil
}

// running reports whether the emitter's configuration is the active one.
func (e *emitter) running() bool { return e.started.Load() && e.context.Err() == nil }

// emit emits an event in the background, because event handlers can be slow. It
// drops the event when too many are in flight.
func (e *emitter) emit(name string, details map[string]any) {
	if e == nil || !e.app.ShouldEmit(eventPrefix+name) {
		return
	}
	select {
	case inFlight <- struct{}{}:
		go func() {
			defer func() { <-inFlight }()
			defer func() {
				if fault := recover(); fault != nil {
					caddy.Log().Named("http.handlers.stale_session").Error("event handler panicked", zap.Any("fault", fault), zap.Stack("stack"))
				}
			}()
			e.app.Emit(e.context, eventPrefix+name, maps.Clone(details)) // event handlers may write to the details
		}()
	default:
	}
}

// emitters are those of all handlers.
var emitters struct {
	sync.Mutex
	all map[*emitter]struct{}
}

// runningEmitter returns the preferred emitter if its configuration is the active
// one, else that of any active handler, or nil if there is none. A directory
// belongs to several handlers, and a reload may end a handler during a request.
func runningEmitter(preferred *emitter) *emitter {
	if preferred != nil && preferred.running() {
		return preferred
	}
	emitters.Lock()
	defer emitters.Unlock()
	for e := range emitters.all {
		if e.running() {
			return e
		}
	}
	return nil
}

// open adds the emitter to those that runningEmitter finds.
func (e *emitter) open() {
	emitters.Lock()
	defer emitters.Unlock()
	if emitters.all == nil {
		emitters.all = make(map[*emitter]struct{})
	}
	emitters.all[e] = struct{}{}
}

func (e *emitter) close() {
	emitters.Lock()
	defer emitters.Unlock()
	delete(emitters.all, e)
}
