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

// prefix is that of the names of events of Caddy's.
const prefix = "stale_session."

// Bounds of events of Caddy's, whose handlers may send mails or run programs.
var (
	detectionRate = rate.NewLimiter(10, 100)
	underWay      = make(chan struct{}, 100)
)

// emitter emits events of Caddy's on behalf of a handler.
type emitter struct {
	app     *caddyevents.App
	context caddy.Context // the handler's, which events need to know their origin
	started atomic.Bool   // nobody subscribes any more, so that the app can be asked
}

// newEmitter returns an emitter that can be used once the configuration has
// started. Until then the app's subscriptions are written to, without a lock.
func newEmitter(app *caddyevents.App, origin caddy.Context) (*emitter, error) {
	e := &emitter{app: app, context: origin}
	return e, app.On("started", e)
}

// Handle implements caddyevents.Handler: it takes the event of Caddy's that
// tells of the start.
func (e *emitter) Handle(context.Context, caddy.Event) error {
	e.started.Store(true)
	return nil
}

// runs tells whether the configuration is the one that runs.
func (e *emitter) runs() bool { return e.started.Load() && e.context.Err() == nil }

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
			defer func() { // a handler of others must not end the process
				if fault := recover(); fault != nil {
					caddy.Log().Named("http.handlers.stale_session").Error("a handler of events has panicked", zap.Any("fault", fault), zap.Stack("stack"))
				}
			}()
			e.app.Emit(e.context, prefix+name, maps.Clone(details)) // handlers may write to what they are given
		}()
	default:
	}
}

// emitters are those of the handlers in use.
var emitters struct {
	sync.Mutex
	all map[*emitter]struct{}
}

// anyEmitter returns an emitter whose configuration runs, nil when there is
// none: the one it is given if it can be, else that of some handler. What
// happens to a directory concerns several, and a request that a reload
// overtakes concerns those who listen now.
func anyEmitter(own *emitter) *emitter {
	if own != nil && own.runs() {
		return own
	}
	emitters.Lock()
	defer emitters.Unlock()
	for e := range emitters.all {
		if e.runs() {
			return e
		}
	}
	return nil
}

// listen makes the emitter known until it is closed.
func (e *emitter) listen() {
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
