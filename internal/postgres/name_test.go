package postgres

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func FuzzTableName(f *testing.F) {
	for _, name := range []string{"users", `"a"."b"`, `"`, "a..b", `"a""b".c`} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		parts, err := splitName(name)
		if err != nil {
			return
		}
		if len(parts) < 1 || len(parts) > 2 || parts[0] == "" {
			t.Errorf("%q is %q", name, parts)
		}
		if again, err := splitName(joinName(parts...)); err != nil || !slices.Equal(again, parts) {
			t.Errorf("%q is %q, and then %q, %v", name, parts, again, err)
		}
	})
}

// A line that an error suggests can be copied into a Caddyfile, whatever the table is
// called.
func FuzzSuggestedLine(f *testing.F) {
	for _, names := range [][2]string{
		{"public", "users"}, {"my app", "User"}, {"a.b", `quo"te`}, {"{app}", "{env.X}"}, {"`", "back`quote"}, {`back\slash`, `\"`}, {"#", "a#b"}, {"{", "}"}, {"", "x"}, {"<<", "<<EOF"}, {"a\u2028b", "\u00A0"},
	} {
		f.Add(names[0], names[1])
	}
	f.Fuzz(func(t *testing.T, schema, name string) {
		if schema == "" || name == "" || !utf8.ValidString(schema) || !utf8.ValidString(name) || strings.ContainsFunc(schema+name, func(r rune) bool { return r < ' ' || r == '\uFEFF' || r == '\uFFFD' }) {
			return // a file in which they would not be seen
		}
		said := lines(relation{schema: schema, name: name})
		text := strings.TrimSuffix(strings.TrimPrefix(said, "`"), "`")
		if strings.Contains(text, "`") && strings.Contains(text, `\`) {
			return
		}
		d := caddyfile.NewTestDispenser(text + "\n")
		var users Users
		d.Next()
		if err := users.UnmarshalCaddyfile(d); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if parts, err := splitName(users.Table); err != nil || !slices.Equal(parts, []string{schema, name}) {
			t.Errorf("%s names %q, %v", text, parts, err)
		}
	})
}
