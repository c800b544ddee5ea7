// Package reads opens readers of sessions, and checks whom they read, for tests.
package reads

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/vectors"
)

// Reader opens a reader of the sessions of one format, given its module.
func Reader(t testing.TB, module caddy.Module) *session.Reader {
	t.Helper()
	resources := new(provision.Resources)
	t.Cleanup(func() { _ = resources.Release() })
	reader, err := resources.Reader(environment.New(), provision.Sessions{Formats: []caddy.Module{module}})
	if err != nil {
		t.Fatal(err)
	}
	return reader
}

// Subjects returns whom a reader reads from a request: the subjects of the tokens, each
// once, and "app asks" for a session that the app looks up itself.
func Subjects(reader *session.Reader, header http.Header) []string {
	var s session.Session
	reader.Read(header, &s)
	var all []string
	for i := range s.Tokens {
		subject := string(s.Tokens[i].Claims.Subject)
		if s.Tokens[i].Claims.AppAsks {
			subject = "app asks"
		}
		if !slices.Contains(all, subject) {
			all = append(all, subject)
		}
	}
	if s.TooLarge {
		all = append(all, "too large")
	}
	return all
}

// Check fails if a reader reads somebody else than a vector says, or if what it reads is
// not removed, with all chunks. Otherwise is why it
// reads another than the library; empty if it does not.
func Check(t *testing.T, reader *session.Reader, v *vectors.Vector, otherwise string) {
	t.Helper()
	want := []string{v.Subject}
	if (v.Expect == "claims") == (otherwise != "") {
		want = nil
	}
	got := Subjects(reader, v.Header())
	if v.Expect != "claims" && otherwise != "" && len(got) == 1 { // whom else, the vector may not say
		want = got
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: read %q, want %q", v.ID, got, want)
	}
	if len(got) == 0 || otherwise != "" {
		return
	}
	header := v.Header()
	header.Set("Cookie", "a=1; "+header.Get("Cookie")+"; b=2")
	var s session.Session
	reader.Read(header, &s)
	reader.Remove(header, s.Tokens, func(int) bool { return true })
	if left := header.Get("Cookie"); left != "a=1; b=2" {
		t.Errorf("%s: %d bytes are left: %.100s", v.ID, len(left), left)
	}
	if names := fmt.Sprint(s.Tokens[0].Names); len(s.Tokens[0].Names) != len(v.Cookies) {
		t.Errorf("%s: held by %s", v.ID, names)
	}
}
