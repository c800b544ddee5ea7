package telemetry

import (
	"maps"
	"sync"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

const (
	// kept is how many events the feed remembers.
	kept = 200
	// behind is how many events a follower may be behind before it loses some.
	behind = 64
)

// Event is something that has happened.
type Event struct {
	// ID is higher than that of every event before, also of an earlier process.
	ID uint64 `json:"id"`
	// Time is when it has happened.
	Time time.Time `json:"time"`
	// Name is that of the event of Caddy's, without "stale_session.".
	Name string `json:"name"`
	// Details are those of the event. They hold no token and no secret.
	Details map[string]any `json:"details,omitempty"`
}

// feed is what has happened lately, and who follows it. It is that of the
// process, so that a reload loses nothing.
var feed struct {
	sync.Mutex
	last      uint64
	events    []Event // the latest, in order, of which the last that are kept count
	followers map[chan Event]bool
}

// Follow returns what has happened after an event that the feed still knows,
// 0 for all, and a channel of what happens from now on, until stop is called.
// Who does not keep up loses events.
func Follow(after uint64) (past []Event, next <-chan Event, stop func()) {
	c := make(chan Event, behind)
	feed.Lock()
	defer feed.Unlock()
	for _, event := range feed.events[max(0, len(feed.events)-kept):] {
		if event.ID > after {
			past = append(past, event)
		}
	}
	if feed.followers == nil {
		feed.followers = make(map[chan Event]bool)
	}
	feed.followers[c] = true
	return past, c, func() {
		feed.Lock()
		defer feed.Unlock()
		delete(feed.followers, c)
	}
}

// publish adds an event to the feed.
func publish(name string, details map[string]any) {
	feed.Lock()
	defer feed.Unlock()
	// From the clock, so that who comes back after a restart misses nothing.
	feed.last = max(feed.last+1, uint64(max(time.Now().UnixMilli(), 0)))
	event := Event{ID: feed.last, Time: time.Now().UTC(), Name: name, Details: details}
	if len(feed.events) == 2*kept {
		feed.events = append(feed.events[:0], feed.events[kept:]...)
	}
	feed.events = append(feed.events, event)
	for follower := range feed.followers {
		select {
		case follower <- event:
		default:
		}
	}
}

// Happened tells of something that is no matter of one request.
func Happened(name string, details map[string]any) {
	publish(name, details)
	anyEmitter(nil).emit(name, details)
}

// Happened implements accounts.Observer.
func (Directories) Happened(event accounts.Event, name string, details map[string]any) {
	all := map[string]any{"database": name}
	maps.Copy(all, details)
	Happened(string(event), all)
}
