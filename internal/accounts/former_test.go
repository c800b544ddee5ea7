package accounts

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// TestWhoHadAnIDBefore shows which tokens are known to be older than the account
// of their subject, by when they were seen.
func TestWhoHadAnIDBefore(t *testing.T) {
	t.Parallel()
	const poll = 500 * time.Millisecond
	created := time.Date(1999, 12, 1, 0, 0, 0, 0, time.UTC)
	ada := directories.Account{Exists: true, CreatedAt: created}
	bob := directories.Account{Exists: true, CreatedAt: created.Add(time.Hour)}
	lagging := ada
	lagging.Replica, lagging.AsOf = true, created
	guessed := ada
	guessed.Unconfirmed = true
	rounded := directories.Account{Exists: true, CreatedAt: created.Add(400 * time.Millisecond)}
	unknown := directories.Account{Exists: true}
	gone := directories.Account{}

	for name, c := range map[string]struct {
		before directories.Account
		then   []directories.Account // each is noticed
		forget bool                  // a change of this user is reported before each
		want   bool                  // a token that was seen before is an earlier account's
	}{
		"the same":                          {ada, []directories.Account{ada}, false, false},
		"another account":                   {ada, []directories.Account{bob}, false, true},
		"another one, as reported":          {ada, []directories.Account{bob}, true, true},
		"another one, after nobody":         {ada, []directories.Account{gone, bob}, false, true},
		"another one, after nobody, by ids": {ada, []directories.Account{gone, bob}, true, true},
		"changed since":                     {ada, []directories.Account{bob, bob}, false, true},
		"restored":                          {ada, []directories.Account{gone, ada}, false, false},
		"an earlier one, from a backup":     {bob, []directories.Account{ada}, false, false},
		"rounded":                           {ada, []directories.Account{rounded}, false, false},
		"the time is not known any more":    {ada, []directories.Account{unknown}, false, false},
		"the time was not known":            {unknown, []directories.Account{bob}, false, false},
		"nobody is known to have had it":    {gone, []directories.Account{bob}, false, false},
		"a replica knew the earlier one":    {lagging, []directories.Account{bob}, false, false},
		"the earlier one was a guess":       {guessed, []directories.Account{bob}, false, false},
		"nobody has it":                     {ada, []directories.Account{gone}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &gated{value: "0", shelf: shelf{users: map[string]directories.Account{"1": c.before}}}
				e := openShelf(t, g, Config{TTL: time.Hour, Poll: poll})
				time.Sleep(poll / 10)
				first := time.Now()
				time.Sleep(time.Millisecond)
				said(e, "1")
				time.Sleep(2 * poll) // nothing changes
				second := time.Now()
				said(e, "1")
				time.Sleep(poll) // the gate is read once more
				for i, account := range c.then {
					g.set(func() { g.users["1"], g.value = account, string(rune('1'+i)) })
					if c.forget {
						e.changed("1")
					}
					time.Sleep(poll)
					said(e, "1")
				}
				account, _, err := ask(e, "1", time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				for _, seen := range []time.Time{first, second} {
					if got := e.Replaced(account, seen); got != c.want {
						t.Errorf("of a token that was seen %s before: %t", time.Since(seen), got)
					}
				}
				if e.Replaced(account, time.Now()) || e.Replaced(account, time.Time{}) {
					t.Error("of a token of now")
				}
			})
		})
	}
}

// A token that is seen between the last time that the gate was read and the time
// that a change is noticed may be either user's.
func TestATokenThatIsSeenWhileTheIDIsGivenAwayIsNobodysForSure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const poll = 500 * time.Millisecond
		created := time.Date(1999, 12, 1, 0, 0, 0, 0, time.UTC)
		g := &gated{value: "0", shelf: shelf{users: map[string]directories.Account{"1": {Exists: true, CreatedAt: created}}}}
		e := openShelf(t, g, Config{TTL: time.Hour, Poll: poll})
		said(e, "1")
		time.Sleep(2*poll + poll/10)
		seen := time.Now()
		said(e, "1")
		g.set(func() {
			g.users["1"], g.value = directories.Account{Exists: true, CreatedAt: created.Add(time.Hour)}, "1"
		})
		time.Sleep(poll)
		account, _, err := ask(e, "1", time.Time{})
		if err != nil || !account.CreatedAt.After(created) {
			t.Fatalf("%+v, %v", account, err)
		}
		if e.Replaced(account, seen) {
			t.Error("it counts as the earlier user's")
		}
		if !e.Replaced(account, seen.Add(-poll)) {
			t.Error("one from before the gate was read does not")
		}
	})
}
