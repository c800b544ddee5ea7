package verdict

import "github.com/seed-4adef13c/caddy-stale-session/internal/directory"

// Judgement is the verdict on one reading of a request's cookies.
type Judgement struct {
	// Verdict is Live, Stale or Unknown for a reading; any for a request.
	Verdict Verdict
	// Reason is set when the verdict is Stale.
	Reason Reason
	// Subject is the user id that the reading names.
	Subject string
	// Source tells where the account came from; empty when none was found.
	Source directory.Source
}

// Together decides about a request whose cookies can be read in more than one
// way, given the judgements on each reading (at least one). A session ends
// only when every reading of it is stale. A reading that could not be judged
// makes the whole unknown.
//
// When a stale reading stands beside another, agree is false: the app might
// act on either, so neither may reach it, and the request goes on as
// anonymous. It ends nobody's session, or a cookie tossed in from elsewhere
// could.
func Together(readings []Judgement) (whole Judgement, agree bool) {
	whole = readings[0]
	for _, j := range readings[1:] {
		if (j.Verdict == Stale) != (whole.Verdict == Stale) {
			return Judgement{Verdict: Anonymous}, false
		}
		if j.Verdict == Unknown && whole.Verdict == Live {
			whole = j
		}
	}
	return whole, true
}
