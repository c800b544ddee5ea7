package stalesession

import (
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// TestWhoseNewSessionIsStaleToo is about a session that a response sets while one of the
// request has become stale.
func TestWhoseNewSessionIsStaleToo(t *testing.T) {
	t.Parallel()
	live := func(subject string) verdict.Judgement {
		return verdict.Judgement{Verdict: verdict.Live, Subject: []byte(subject)}
	}
	stale := func(subject string) verdict.Judgement {
		return verdict.Judgement{Verdict: verdict.Stale, Reason: verdict.TokenRevoked, Subject: []byte(subject)}
	}
	alone := stale("ada")
	alone.Alone = true
	for name, c := range map[string]struct {
		set, died verdict.Judgement
		want      verdict.Verdict
	}{
		"of the same user": {live("ada"), stale("ada"), verdict.Stale},
		"of somebody else": {live("bob"), stale("ada"), verdict.Live},
		"of the same user, whose other session has ended": {live("ada"), alone, verdict.Live},
		"of nobody knows whom, both":                      {live(""), stale(""), verdict.Live},
		"of a user whose session is live":                 {live("ada"), live("ada"), verdict.Live},
	} {
		set := []verdict.Judgement{c.set}
		if spread(set, []verdict.Judgement{c.died}); set[0].Verdict != c.want {
			t.Errorf("%s: %s", name, set[0].Verdict)
		}
	}
}
