package admin

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/clocks"
)

func TestTheStatusShowsHowClocksDiffer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		database, app time.Duration
		measures      int
		want          string
	}{
		"before they are measured": {0, 0, 0, `{"leeway":60}`},
		"clocks that agree":        {0, 0, 10, `{"database":0,"app":0,"leeway":5}`},
		"clocks that differ":       {20 * time.Second, -10 * time.Second, 10, `{"database":20,"app":-10,"leeway":32}`},
	} {
		var measured clocks.Clocks
		for i := range c.measures {
			at := time.Now().Truncate(time.Second).Add(time.Duration(i-60) * time.Second)
			measured.Database(at.Add(c.database), at, at)
			measured.App(at.Add(c.app), at, at.Add(time.Second))
		}
		text, err := json.Marshal(clocksStatus(measured.Known()))
		if err != nil || string(text) != c.want {
			t.Errorf("%s: %s, %v; want %s", name, text, err, c.want)
		}
	}
}
