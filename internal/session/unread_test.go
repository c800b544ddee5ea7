package session

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// shy is a format that owns cookies named id, and reads only those of its own form.
type shy struct{ plain }

func (s *shy) Readings(parts []formats.Part) (all []formats.Reading) {
	for _, r := range s.plain.Readings(parts) {
		if strings.HasPrefix(r.Text, "valid:") {
			all = append(all, r)
		}
	}
	return all
}

func TestWhatLooksLikeASessionAndIsNotReadIsNoticed(t *testing.T) {
	t.Parallel()
	own := v4(t, "ada")
	foreign, err := mint.V4("another secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	seal, err := mint.Seal{Password: "password"}.Of(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		header http.Header
		want   string
	}{
		"nothing":                       {http.Header{"Cookie": {"theme=dark; _ga=GA1.2.1234567890.123456789012345678901234567890"}}, ""},
		"a session that is read":        {http.Header{"Cookie": {v4Name + "=" + own}}, ""},
		"one that cannot be decoded":    {http.Header{"Cookie": {v4Name + "=" + foreign}}, ""}, // of which another warning tells
		"under another name":            {http.Header{"Cookie": {"app=" + own}}, "app"},
		"with blanks":                   {http.Header{"Cookie": {"a=b;  app = " + own}}, "app"},
		"beside one that is read":       {http.Header{"Cookie": {v4Name + "=" + own + "; iron=" + seal}}, "iron"},
		"in a cookie of another format": {http.Header{"Cookie": {"id=" + seal}}, "id"},
		"read by another format":        {http.Header{"Cookie": {"id=valid:ada"}}, ""},
		"a Bearer token that is read":   {http.Header{"Authorization": {"Bearer " + own}}, ""},
		"a Bearer token":                {http.Header{"Authorization": {"bearer " + foreign}}, "Authorization"},
		"a password":                    {http.Header{"Authorization": {"Basic " + strings.Repeat("x", 60)}}, ""},
		"a name that cannot be shown":   {http.Header{"Cookie": {"a\x1bb=" + own}}, ""},
		"behind many others":            {http.Header{"Cookie": {strings.Repeat("a=b; ", maxNoticed-1) + "iron=" + seal}}, "iron"},
		"behind too many others":        {http.Header{"Cookie": {strings.Repeat("a=b; ", maxNoticed) + "iron=" + seal}}, ""},
		"a sign-in that is under way":   {http.Header{"Cookie": {"__Secure-authjs.pkce.code_verifier=" + own}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rd := newReader(t, Config{Formats: []formats.Format{new(shy)}})
			for i, want := range []string{c.want, ""} { // once
				var s Session
				rd.Read(c.header, &s)
				var got []string
				for _, found := range s.Unread {
					got = append(got, found.Name)
				}
				if strings.Join(got, " ") != want {
					t.Errorf("request %d: noticed %q", i, got)
				}
			}
			if all := rd.Unread(); len(all) > 1 || len(all) == 1 && (all[0].Name != c.want || strings.Contains(all[0].Advice, own)) {
				t.Errorf("%+v", all)
			}
		})
	}
}
