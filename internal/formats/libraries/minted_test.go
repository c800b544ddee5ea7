package libraries

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/reads"
)

// object is JSON.
type object = map[string]any

// minted makes a session of each library, by the libraries that read it.
func minted(t *testing.T, user string, rest string) map[string]string {
	t.Helper()
	value := func(name, text string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return name + "=" + text
	}
	end := time.Now().Add(time.Hour)
	seal := func(name string, s mint.Seal, content object) string {
		text, err := s.Of(content)
		return value(name, text, err)
	}
	of := object{"id": user, "rest": rest}
	inH3 := object{"id": "0d8c1c5e-1d0b-4a0e-9c0a-7e1d6f1b2a3c", "createdAt": time.Now().UnixMilli(), "data": object{"user": of}}
	signed, err := mint.Remix(password, object{"userId": user, "rest": rest})
	remix := value("__session", signed, err)
	encrypted, err := mint.Auth0(password, nil, object{"user": object{"sub": user, "rest": rest}, "internal": object{"sid": "s", "createdAt": time.Now().Unix()}, "exp": end.Unix()})
	auth0 := value("__session", encrypted, err)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": user, "exp": end.Unix(), "rest": rest}).SignedString([]byte(password))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := mint.Supabase(token, object{"id": "not signed"})
	return map[string]string{
		"iron-session 8, iron-session 9, iron-session 9, chunks": seal("session", mint.Seal{Password: password, ID: "1", Expires: end}, object{"user": of}) + "~2",
		"h3 1":                seal("nuxt-session", mint.Seal{Password: password}, inH3),
		"h3 2, h3 2, chunks":  seal("h3", mint.Seal{Password: password, Iterations: 8192}, inH3),
		"Remix, React Router": remix,
		"Auth0":               auth0,
		"Supabase":            value("sb-localhost-auth-token", kept, err),
	}
}

// TestTheRealLibrariesReadWhatIsMintedHere has sessions of users with all sorts of ids,
// which the real libraries and the formats must read the same.
func TestTheRealLibrariesReadWhatIsMintedHere(t *testing.T) {
	in, out := node(t, "judge.mjs")
	ask, answers := json.NewEncoder(in), json.NewDecoder(out)
	rd, random := reader(t), rand.New(rand.NewPCG(*seed, 1))
	const users = 25
	sessions := 0
	for i := range users {
		user := fmt.Sprintf("%d-%s", i, pick(&generator{Rand: random}, "ada", "Zoë", "雪", `q"uote`, "a.b", "a b", "😀", "auth0|65a1", "%2e", "~*"))
		for libraries, cookies := range minted(t, user, strings.Repeat(pick(&generator{Rand: random}, "x", "é", "雪?>~"), random.IntN(300))) {
			sessions++
			if err := ask.Encode(map[string][]byte{"cookie": []byte(cookies)}); err != nil {
				t.Fatal(err)
			}
			var app map[string]string
			if err := answers.Decode(&app); err != nil {
				t.Fatal(err)
			}
			for library, read := range app {
				if read != user || !strings.Contains(libraries, library) {
					t.Errorf("%s reads %q of %q", library, read, user)
				}
			}
			if len(app) == 0 {
				t.Errorf("%s read nobody of %q", libraries, user)
			}
			if got := reads.Subjects(rd, http.Header{"Cookie": {cookies}}); !slices.Equal(got, []string{user}) {
				t.Errorf("%s: read %q of %q", libraries, got, user)
			}
		}
	}
	t.Logf("%d sessions", sessions)
}
