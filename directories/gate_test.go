package directories_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
)

// TestTheGateOfAThirdParty shows that the engine does for the directory of the
// example what it does for Postgres.
func TestTheGateOfAThirdParty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const poll = 500 * time.Millisecond
		users := &table{users: map[string]directories.Account{"ada": {Exists: true}}}
		e := accounts.Open(&directory{users}, accounts.Config{Poll: poll, TTL: time.Hour})
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		ada := func() (exists bool, from accounts.Source) {
			t.Helper()
			var account accounts.Account
			from, err := e.Lookup(context.Background(), accounts.Query{Query: directories.Query{Subject: []byte("ada")}, Now: time.Now()}, &account)
			if err != nil {
				t.Fatal(err)
			}
			return account.Exists, from
		}
		unrelated := func(map[string]directories.Account) {}
		deleted := func(users map[string]directories.Account) { delete(users, "ada") }

		time.Sleep(time.Millisecond) // the time 0 of an engine stands for none
		e.StartWatch()
		time.Sleep(poll / 20) // from here on, between two polls
		if !e.Stats().Watching {
			t.Fatal("it does not watch")
		}
		if exists, from := ada(); !exists || from != accounts.FromDatabase {
			t.Errorf("the first request finds her: %t, from the %s", exists, from)
		}

		// While nothing is committed, nothing is looked up.
		for range 100 {
			time.Sleep(poll / 10)
			if exists, from := ada(); !exists || from != accounts.FromCache {
				t.Errorf("while nothing is committed she is found: %t, from the %s", exists, from)
			}
		}
		if n := e.Stats().Rechecked; n != 0 {
			t.Errorf("without a commit %d accounts were re-checked", n)
		}

		// While others write, she is re-checked, and no request waits for that.
		for range 1000 {
			users.commit(unrelated)
			time.Sleep(poll / 10)
			if exists, from := ada(); !exists || from != accounts.FromCache {
				t.Errorf("while others write she is found: %t, from the %s", exists, from)
			}
		}
		if n := e.Stats().Rechecked; n < 99 {
			t.Errorf("in 100 polls she was re-checked %d times", n)
		}

		// Once she is deleted, the next poll notices, and confirms it.
		users.commit(deleted)
		time.Sleep(poll)
		if exists, from := ada(); exists || from != accounts.FromCache {
			t.Errorf("after the next poll she is found: %t, from the %s", exists, from)
		}
		if n := e.Stats().Notifications; n != 0 {
			t.Errorf("%d changes were reported", n)
		}
	})
}
