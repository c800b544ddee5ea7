package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

const (
	// heartbeat is how often a quiet stream says that it is there.
	heartbeat = 15 * time.Second
	// stalled is how long a stream waits for who does not read.
	stalled = 30 * time.Second
	// minStatus is the least time between two statuses of a stream.
	minStatus = 500 * time.Millisecond
)

// events streams what happens, as server-sent events (HTML, section 9.2):
// first what has happened lately. A browser that connects again gets what it
// has missed. Who asks for it also gets the status, as an event without an id.
func (p *Panel) events(w http.ResponseWriter, r *http.Request) error {
	var statuses <-chan time.Time
	if every := r.URL.Query().Get("status"); every != "" {
		period, err := time.ParseDuration(every)
		if err != nil || period < minStatus {
			return refuse(http.StatusBadRequest, fmt.Errorf("status is %q; it can be a time from %s on, such as 2s", every, minStatus))
		}
		tick := time.NewTicker(period)
		defer tick.Stop()
		statuses = tick.C
	}
	after, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64) // 0 for all
	past, next, stop := telemetry.Follow(after)
	defer stop()
	s := stream{w, http.NewResponseController(w)}
	// The admin endpoint gives a request ten seconds.
	_ = s.control.SetReadDeadline(time.Time{}) // where that cannot be set there is none
	w.Header().Set("Content-Type", "text/event-stream")
	for _, event := range past {
		if s.send(event) != nil {
			return nil // who has gone gets no answer
		}
	}
	if s.say(": the past ends here\n\n") != nil || statuses != nil && s.sendStatus(p.statusNow()) != nil || s.flush() != nil {
		return nil
	}
	if r.Method == http.MethodHead {
		return nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return nil
		case <-p.Ended:
			return nil
		case event := <-next:
			err = s.send(event)
		case <-statuses:
			err = s.sendStatus(p.statusNow())
		case <-beat.C:
			err = s.say(": still here\n\n")
		}
		if err != nil || s.flush() != nil {
			return nil
		}
	}
}

// stream is a stream of events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s stream) say(format string, values ...any) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(stalled)) // where that cannot be set there is none
	_, err := fmt.Fprintf(s.w, format, values...)
	return err
}

func (s stream) flush() error { return s.control.Flush() }

func (s stream) send(event telemetry.Event) error {
	text, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return s.say("id: %d\nevent: %s\ndata: %s\n\n", event.ID, event.Name, text)
}

func (s stream) sendStatus(status Status) error {
	text, err := json.Marshal(status)
	if err != nil {
		return err
	}
	return s.say("event: status\ndata: %s\n\n", text)
}
