package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// heartbeat is how often a quiet stream says that it is there.
const heartbeat = 15 * time.Second

// events streams what happens, as server-sent events (HTML, section 9.2):
// first what has happened lately. A browser that connects again gets what it
// has missed.
func (a *API) events(w http.ResponseWriter, r *http.Request) error {
	after, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64) // 0 for all
	past, next, stop := telemetry.Follow(after)
	defer stop()
	control := http.NewResponseController(w)
	// The admin endpoint gives a request ten seconds.
	_ = control.SetReadDeadline(time.Time{}) // where that cannot be set there is none
	w.Header().Set("Content-Type", "text/event-stream")
	for _, event := range past {
		if err := send(w, event); err != nil {
			return nil // who has gone gets no answer
		}
	}
	if _, err := fmt.Fprint(w, ": the past ends here\n\n"); err != nil || control.Flush() != nil {
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
		case <-a.context.Done(): // after a reload another server answers
			return nil
		case event := <-next:
			err = send(w, event)
		case <-beat.C:
			_, err = fmt.Fprint(w, ": still here\n\n")
		}
		if err != nil || control.Flush() != nil {
			return nil
		}
	}
}

func send(w http.ResponseWriter, event telemetry.Event) error {
	text, err := json.Marshal(event)
	if err == nil {
		_, err = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", event.ID, event.Name, text)
	}
	return err
}
