package postgres

import (
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

func TestNobodyWasEverFoundInATableThatHasRows(t *testing.T) {
	t.Parallel()
	name := database(t, `create table users (id text primary key)`)
	d, lines := open(t, server.DSN(name), Config{})
	confirm := func(subject string) {
		t.Helper()
		if _, err := d.Lookup(t.Context(), []directories.Query{{Subject: []byte(subject), Since: time.Now()}}); err != nil {
			t.Fatal(err)
		}
	}
	alarm := func() int { return lines.FilterMessageSnippet("no session so far names a user").Len() }
	confirm("a")
	if alarm() != 0 {
		t.Error("alarm about an empty table")
	}
	run(t, name, `insert into users values ('known')`)
	d.doubts.raised = time.Time{}
	lookup(t, d, "b")
	if alarm() != 0 {
		t.Error("alarm about an absence that is not confirmed")
	}
	confirm("b")
	confirm("c")
	if alarm() != 1 {
		t.Errorf("%d alarms, want 1 in the period", alarm())
	}
	lookup(t, d, "known")
	d.doubts.raised = time.Time{}
	confirm("d")
	if alarm() != 1 {
		t.Error("alarm after a subject was found")
	}
}
