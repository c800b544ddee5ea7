package unread

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/vectors"
)

// Whatever the real libraries keep a session in is noticed, but for the chunks after
// the first.
func TestSessionsOfTheRealLibrariesAreNoticed(t *testing.T) {
	t.Parallel()
	for library, kinds := range map[string][]Kind{
		"iron": {Seal}, "supabase": {Supabase}, "auth0": {JWE}, "remix": {SignedJSON, SignedID},
	} {
		for _, v := range vectors.Read(t, "../formats/"+library+"/testdata/vectors.json") {
			var n Names
			for _, cookie := range v.Cookies {
				n.Notice(cookie[0], cookie[1])
			}
			found := n.All()
			switch {
			case strings.Contains(v.ID, "pkce"), strings.Contains(v.ID, "raw"), strings.Contains(v.ID, "unsigned"), v.ID == "supabase-chunk-missing":
				if len(found) > 0 {
					t.Errorf("%s: found %v", v.ID, found)
				}
			case len(found) != 1:
				t.Errorf("%s: found %v", v.ID, found)
			case found[0].Kind != kinds[0] && found[0].Kind != kinds[len(kinds)-1]:
				t.Errorf("%s: looks like %s", v.ID, found[0].Kind)
			case found[0].Advice == "":
				t.Errorf("%s: no advice", v.ID)
			}
		}
	}
}

func TestWhatAValueLooksLike(t *testing.T) {
	t.Parallel()
	v4, err := mint.V4("secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value string
		want  Kind
	}{
		"a session of NextAuth":    {v4, JWE},
		"a signed token":           {"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", JWT},
		"a token without alg":      {"eyJzdWIiOiIxIiwibmFtZSI6IlpvZSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", None},
		"a visitor of an analysis": {"GA1.2.1234567890.1234567890123456789012345", None},
		"an address":               {"https%3A%2F%2Fapp.example%2Fa.very.long.path%2Fof%2Fthe%2Fapp", None},
		"a hash":                   {strings.Repeat("0123456789abcdef", 8), None},
		"a text with a dot":        {strings.Repeat("x", 60) + "." + strings.Repeat("y", 20), None},
		"a sentence":               {"s: " + strings.Repeat("all that is said ", 9), None},
		"short":                    {"a.b.c", None},
		"empty":                    {"", None},
	} {
		if got := KindOf(c.value); got != c.want {
			t.Errorf("%s: looks like %q, want %q", name, got, c.want)
		}
	}
}

const seal = "Fe26.2*1*8f6efd3a4a38605cc80b87aeab606d9aa8f695de9fadc96a0b6f03a6fc21bab1*S8c1FwUhq3Gctll_crPZag"

func TestANameIsNoticedOnce(t *testing.T) {
	t.Parallel()
	var n Names
	if _, first := n.Notice("session", seal); !first {
		t.Error("not noticed")
	}
	if _, again := n.Notice("session", seal); again {
		t.Error("noticed twice")
	}
}

// TestNamesThatSomebodyMakesUp are bounded, and keep none from being noticed that
// libraries use.
func TestNamesThatSomebodyMakesUp(t *testing.T) {
	t.Parallel()
	var n Names
	for i := range 10_000 {
		n.Notice(fmt.Sprint("name", i), seal)
	}
	if got := len(n.All()); got != maxNames {
		t.Errorf("%d names are kept", got)
	}
	if _, noticed := n.Notice("nuxt-session", seal); !noticed {
		t.Error("nuxt-session is not noticed")
	}
	for _, name := range []string{"", strings.Repeat("n", 65), "a\nb", "a b", "<b>", "\x1b[31m", "é", "next-auth.csrf-token", "better-auth.session_token_multi-abcdefghijklmnopqrstuvwxyz012345", "__Secure-authjs.pkce.code_verifier"} {
		var n Names
		if found, noticed := n.Notice(name, seal); noticed {
			t.Errorf("%q is noticed: %+v", name, found)
		}
	}
}

func TestNoticingANameAgainDoesNotAllocate(t *testing.T) {
	var n Names
	n.Notice("session", seal)
	if got := testing.AllocsPerRun(100, func() { n.Notice("session", seal); n.Notice("theme", "dark") }); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// Every format that the docs name has an advice that names it.
func TestAdvice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		kind Kind
		want string
	}{
		{"nuxt-session", Seal, "NUXT_SESSION_PASSWORD"},
		{"app", Seal, "`cookie app`"},
		{"wos-session", Seal, "WORKOS_COOKIE_PASSWORD"},
		{"__session__0", JWE, "format auth0"},
		{"sid", JWE, "`cookie sid`"},
		{"sid", JWT, "`cookie sid`"},
		{"__session", SignedJSON, "SESSION_SECRET"},
		{"connect.sid", SignedID, "cannot be read"},
		{"__Secure-better-auth.session_data", SignedID, "BETTER_AUTH_SECRET"},
		{"sb-x-auth-token.0", Supabase, "SUPABASE_JWT_SECRET"},
		{Bearer, JWT, "`jwks`"},
	} {
		if got := Advice(c.name, c.kind); !strings.Contains(got, c.want) {
			t.Errorf("%s, %s: %s", c.name, c.kind, got)
		}
	}
}

// FuzzKindOf must not panic.
func FuzzKindOf(f *testing.F) {
	for _, library := range []string{"iron", "supabase", "auth0", "remix"} {
		for _, v := range vectors.Read(f, "../formats/"+library+"/testdata/vectors.json") {
			for _, cookie := range v.Cookies {
				if len(cookie[1]) < 1000 {
					f.Add(cookie[1])
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, value string) {
		if kind := KindOf(value); kind != None && len(value) < shortest {
			t.Errorf("%q looks like %s", value, kind)
		}
	})
}
