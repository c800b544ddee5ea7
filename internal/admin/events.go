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
	// heartbeat is the time between two comments that keep an idle stream open.
	heartbeat = 15 * time.Second
	// writeTimeout is how long a stream waits for a client that does not read.
	writeTimeout = 30 * time.Second
	// minStatus is the shortest time between two statuses of a stream.
	minStatus = 500 * time.Millisecond
)

// events serves a stream of server-sent events (HTML, section 9.2), the latest
// past ones first. A browser that reconnects gets those it missed. With the
// parameter status the stream has the status too, as an event without an ID.
func (p *Panel) events(w http.ResponseWriter, r *http.Request) error {
	var statuses <-chan time.Time
	if text := r.URL.Query().Get("status"); text != "" {
		period, err := time.ParseDuration(text)
		if err != nil || period < minStatus {
			return apiError(http.StatusBadRequest, fmt.Errorf("status %q is not a duration of at least %s, such as 2s", text, minStatus))
		}
		tick := time.NewTicker(period)
		defer tick.Stop()
		statuses = tick.C
	}
	after, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64) // 0, so all events, when it is missing or invalid
	past, next, stop := telemetry.Follow(after)
	defer stop()
	s := stream{w, http.NewResponseController(w)}
	_ = s.control.SetReadDeadline(time.Time{}) // Caddy's admin endpoint sets one; a writer that cannot set it has none
	w.Header().Set("Content-Type", "text/event-stream")
	for _, event := range past {
		if s.send(event) != nil {
			return nil // client disconnected
		}
	}
	if s.write(": end of past events\n\n") != nil || statuses != nil && s.sendStatus(p.currentStatus()) != nil || s.flush() != nil {
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
		case <-p.Done:
			return nil
		case event := <-next:
			err = s.send(event)
		case <-statuses:
			err = s.sendStatus(p.currentStatus())
		case <-beat.C:
			err = s.write(": heartbeat\n\n")
		}
		if err != nil || s.flush() != nil {
			return nil
		}
	}
}

// stream is a stream of server-sent events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s stream) write(format string, values ...any) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer can set one
	_, err := fmt.Fprintf(s.w, format, values...)
	return err
}

func (s stream) flush() error { return s.control.Flush() }

func (s stream) send(event telemetry.Event) error {
	text, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return s.write("id: %d\nevent: %s\ndata: %s\n\n", event.ID, event.Name, text)
}

func (s stream) sendStatus(status Status) error {
	text, err := json.Marshal(status)
	if err != nil {
		return err
	}
	return s.write("event: status\ndata: %s\n\n", text)
}
