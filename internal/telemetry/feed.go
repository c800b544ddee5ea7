package telemetry

import (
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

const (
	// maxEvents is how many events the feed keeps.
	maxEvents = 200
	// maxPending is how many events a subscriber can fall behind before it
	// misses some.
	maxPending = 64
)

// Event is a detection, or a change of state.
type Event struct {
	// ID grows with each event, across restarts too.
	ID uint64 `json:"id"`
	// Time is when it happened.
	Time time.Time `json:"time"`
	// Name is the name of the Caddy event without "stale_session.".
	Name string `json:"name"`
	// Details hold no token and no secret.
	Details map[string]any `json:"details,omitempty"`
}

// eventFeed keeps the latest events and passes on new ones.
type eventFeed struct {
	mu          sync.Mutex
	lastID      uint64
	events      []entry // oldest first; the last maxEvents of them are the feed
	subscribers map[chan Event]bool
}

// entry is an event in the feed. Details are made of the fields once somebody reads
// them.
type entry struct {
	Event
	fields []zap.Field
}

func (e *entry) event() Event {
	event := e.Event
	if event.Details == nil && e.fields != nil {
		event.Details = detailsOf(e.fields)
	}
	return event
}

// detailsOf returns the details of an event as a map.
func detailsOf(fields []zap.Field) map[string]any {
	details := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(details)
	}
	return details.Fields
}

// feed is the feed of this process, so a reload keeps it.
var feed = eventFeed{subscribers: make(map[chan Event]bool)}

// Follow returns the latest events with an ID above after, oldest first, and a
// channel of new ones until stop is called. A slow reader misses events.
func Follow(after uint64) (past []Event, next <-chan Event, stop func()) {
	c := make(chan Event, maxPending)
	feed.mu.Lock()
	defer feed.mu.Unlock()
	latest := feed.events[max(0, len(feed.events)-maxEvents):]
	for i := range latest {
		if latest[i].ID > after {
			past = append(past, latest[i].event())
		}
	}
	feed.subscribers[c] = true
	return past, c, func() {
		feed.mu.Lock()
		defer feed.mu.Unlock()
		delete(feed.subscribers, c)
	}
}

// add adds an event.
func (f *eventFeed) add(name string, details map[string]any) {
	f.append(entry{Event: Event{Name: name, Details: details}})
}

// addFields adds an event whose details are fields.
func (f *eventFeed) addFields(name string, fields []zap.Field) {
	f.append(entry{Event{Name: name}, fields})
}

func (f *eventFeed) append(e entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// IDs follow the clock, so a client that reconnects after a restart with the
	// last ID it saw gets all newer events.
	f.lastID = max(f.lastID+1, uint64(max(time.Now().UnixMilli(), 0)))
	e.ID, e.Time = f.lastID, time.Now().UTC()
	if len(f.events) == 2*maxEvents {
		f.events = append(f.events[:0], f.events[maxEvents:]...)
	}
	f.events = append(f.events, e)
	if len(f.subscribers) == 0 {
		return
	}
	event := e.event()
	for subscriber := range f.subscribers {
		select {
		case subscriber <- event:
		default:
		}
	}
}

// Publish publishes an event that does not belong to a request, in the feed and
// as a Caddy event.
func Publish(name string, details map[string]any) {
	feed.add(name, details)
	runningEmitter(nil).emit(name, details)
}

// Happened implements accounts.Observer.
func (Directories) Happened(event accounts.Event, name string, details map[string]any) {
	all := map[string]any{"database": name}
	maps.Copy(all, details)
	Publish(string(event), all)
}
