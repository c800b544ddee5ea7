package admin

import (
	"math"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/clocks"
)

// ClocksStatus is what is known of the clocks that write accounts and tokens. All
// are seconds.
type ClocksStatus struct {
	// Database is how far the database's clock is ahead of this one; nil if that is
	// not known.
	Database *float64 `json:"database,omitempty"`
	// App is the same of the app's, by the sessions that it set.
	App *float64 `json:"app,omitempty"`
	// Leeway is what a session is given that begins now when its iat is compared
	// with a time in the database.
	Leeway float64 `json:"leeway"`
}

func clocksStatus(known *clocks.Known) *ClocksStatus {
	status := &ClocksStatus{Leeway: known.Leeway(time.Now()).Seconds()}
	if known == nil {
		return status
	}
	status.Database, status.App = ahead(known.Database), ahead(known.App)
	return status
}

// ahead returns the middle of an offset, to a hundredth of a second.
func ahead(o clocks.Offset) *float64 {
	if o.Count == 0 {
		return nil
	}
	seconds := math.Round((o.Least+o.Most).Seconds()*50) / 100
	return &seconds
}
