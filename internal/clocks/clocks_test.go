package clocks

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// clock is one that is ahead of ours.
type clock time.Duration

func (c clock) at(ours time.Time) time.Time { return ours.Add(time.Duration(c)) }

const ms = time.Millisecond

// signIns records sign-ins by an app with a clock, in the middle of requests that
// take some time, beginning at noon.
func (c *Clocks) signIns(n int, app clock, take time.Duration) {
	for i := range n {
		began := noon.Add(time.Duration(i) * 1234 * ms)
		c.App(app.at(began.Add(take/2)).Truncate(second), began, began.Add(take))
	}
}

// polls records readings of the database's clock.
func (c *Clocks) polls(database clock) {
	for i := range 10 {
		began := noon.Add(time.Duration(i-2) * 500 * ms)
		c.Database(database.at(began.Add(ms)), began, began.Add(2*ms))
	}
}

func TestTheLeewayIsWhatTheClocksNeed(t *testing.T) {
	t.Parallel()
	later := noon.Add(time.Hour)
	for name, c := range map[string]struct {
		measure     func(*Clocks)
		issued      time.Time
		least, most time.Duration
	}{
		"nothing was measured":          {func(*Clocks) {}, later, MaxLeeway, MaxLeeway},
		"the database alone":            {func(c *Clocks) { c.polls(0) }, later, MaxLeeway, MaxLeeway},
		"the app alone":                 {func(c *Clocks) { c.signIns(enough, 0, 50*ms) }, later, MaxLeeway, MaxLeeway},
		"too few sign-ins":              {func(c *Clocks) { c.polls(0); c.signIns(enough-1, 0, 50*ms) }, later, MaxLeeway, MaxLeeway},
		"clocks that agree":             {func(c *Clocks) { c.polls(0); c.signIns(enough, 0, 50*ms) }, later, MinLeeway, MinLeeway},
		"a token from before":           {func(c *Clocks) { c.polls(0); c.signIns(enough, 0, 50*ms) }, noon.Add(-time.Minute), MaxLeeway, MaxLeeway},
		"both are ahead":                {func(c *Clocks) { c.polls(clock(time.Hour)); c.signIns(9, clock(30*time.Second), 50*ms) }, later, MaxLeeway, MaxLeeway},
		"both are ahead by as much":     {func(c *Clocks) { c.polls(clock(30 * time.Second)); c.signIns(9, clock(30*time.Second), 50*ms) }, later, MinLeeway, MinLeeway},
		"the database is ahead":         {func(c *Clocks) { c.polls(clock(20 * time.Second)); c.signIns(9, 0, 50*ms) }, later, 21 * time.Second, 24 * time.Second},
		"the app is behind":             {func(c *Clocks) { c.polls(0); c.signIns(9, clock(-20*time.Second), 50*ms) }, later, 21 * time.Second, 24 * time.Second},
		"one node of the app is behind": {func(c *Clocks) { c.polls(0); c.signIns(9, 0, 50*ms); c.signIns(1, clock(-20*time.Second), 50*ms) }, later, 21 * time.Second, 24 * time.Second},
		"one node, slowly": {func(c *Clocks) {
			c.polls(0)
			c.signIns(9, 0, 50*ms)
			c.signIns(1, clock(-20*time.Second), 8*time.Second)
		}, later, 21 * time.Second, 30 * time.Second},
		"one node is ahead":              {func(c *Clocks) { c.polls(0); c.signIns(9, 0, 50*ms); c.signIns(1, clock(20*time.Second), 50*ms) }, later, 21 * time.Second, 24 * time.Second},
		"sign-ins that take long":        {func(c *Clocks) { c.polls(0); c.signIns(9, 0, 50*ms); c.signIns(9, 0, 20*time.Second) }, later, MinLeeway, MinLeeway},
		"nothing but sign-ins like that": {func(c *Clocks) { c.polls(0); c.signIns(9, 0, 20*time.Second) }, later, MaxLeeway, MaxLeeway},
		"a token from last year is set":  {func(c *Clocks) { c.polls(0); c.signIns(9, 0, 50*ms); c.App(noon.AddDate(-1, 0, 0), noon, noon) }, later, MinLeeway, MinLeeway},
		"a row from somebody else's clock": {
			func(c *Clocks) { c.polls(0); c.signIns(9, 0, 50*ms); c.Row(noon.Add(10*time.Second), noon) }, later, MaxLeeway, MaxLeeway,
		},
		"a row by the database's clock": {
			func(c *Clocks) {
				c.polls(clock(20 * time.Second))
				c.signIns(9, 0, 50*ms)
				c.Row(noon.Add(20*time.Second), noon)
			}, later, 21 * time.Second, 24 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var clocks Clocks
			c.measure(&clocks)
			if got := clocks.Known().Leeway(c.issued); got < c.least || got > c.most {
				t.Errorf("the leeway is %s, want %s to %s", got, c.least, c.most)
			}
		})
	}
}

// Whatever the clocks show, a sign-up is not older than its account: the row is
// written just before the token, by the app's clock or the database's.
func TestNoSignUpIsOlderThanItsAccountByMoreThanTheLeeway(t *testing.T) {
	t.Parallel()
	for _, database := range []clock{0, clock(300 * ms), clock(-3 * time.Second), clock(25 * time.Second), clock(-25 * time.Second)} {
		for _, app := range []clock{0, clock(700 * ms), clock(-4 * time.Second), clock(30 * time.Second), clock(-30 * time.Second)} {
			for _, others := range []clock{app, 0} { // what was measured before it
				var c Clocks
				c.polls(database)
				c.signIns(9, others, 40*ms)
				created := noon.Add(time.Hour + 999*ms)
				issued := app.at(created.Add(5 * ms)).Truncate(second)
				c.App(issued, created.Add(-ms), created.Add(300*ms)) // it is measured before it is judged
				for _, written := range []clock{database, app} {
					if older := written.at(created).Sub(issued); older > c.Known().Leeway(issued) && older <= MaxLeeway {
						t.Errorf("database %s, app %s: older by %s, with a leeway of %s", time.Duration(database), time.Duration(app), older, c.Known().Leeway(issued))
					}
				}
			}
		}
	}
}

func TestTheDatabaseIsAheadOnlyIfThatIsCertain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		measure     func(*Clocks)
		least, most time.Duration
	}{
		"nothing was measured": {func(*Clocks) {}, 0, 0},
		"they agree":           {func(c *Clocks) { c.polls(clock(100 * ms)); c.signIns(1, 0, 50*ms) }, 0, 0},
		"it is behind":         {func(c *Clocks) { c.polls(clock(-time.Minute)); c.signIns(1, 0, 50*ms) }, 0, 0},
		"it is ahead":          {func(c *Clocks) { c.polls(clock(10 * time.Second)); c.signIns(1, 0, 50*ms) }, 10 * time.Second, 12 * time.Second},
		"both are":             {func(c *Clocks) { c.polls(clock(10 * time.Second)); c.signIns(3, clock(10*time.Second), 50*ms) }, 0, 0},
		"ahead of ours":        {func(c *Clocks) { c.polls(clock(10 * time.Second)) }, 10 * time.Second, 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var clocks Clocks
			c.measure(&clocks)
			if got := clocks.Known().DatabaseAhead(); got < c.least || got > c.most {
				t.Errorf("it is ahead by %s, want %s to %s", got, c.least, c.most)
			}
		})
	}
}

func TestAResetBetweenATokenAndARow(t *testing.T) {
	t.Parallel()
	var c Clocks
	c.polls(0)
	c.signIns(9, 0, 50*ms)
	at := noon.Add(time.Hour)
	for range 2 * maxResets { // only the last ones are remembered
		c.Reset(noon, noon)
	}
	c.Reset(at, at.Add(500*ms))
	for name, s := range map[string]struct {
		issued, created time.Time
		between         bool
	}{
		"the token before, the row after":       {at.Add(-20 * time.Second), at.Add(300 * ms), true},
		"both after":                            {at.Add(time.Minute), at.Add(80 * time.Second), false},
		"both before":                           {at.Add(-40 * time.Second), at.Add(-20 * time.Second), false},
		"the row a bit before, as by its clock": {at.Add(-20 * time.Second), at.Add(-time.Second), true},
	} {
		if got := c.Known().ResetBetween(s.issued, s.created); got != s.between {
			t.Errorf("%s: %t", name, got)
		}
	}
	if n := len(c.Known().resets); n != maxResets {
		t.Errorf("%d resets are remembered", n)
	}
}
