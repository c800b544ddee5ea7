package session

import (
	"cmp"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

// vectors are tokens of the real libraries. The program in testdata/generate
// writes them.
type vectors struct {
	Vectors, Signed  []vector
	SessionStoreEdge []struct {
		Lib, Case  string
		CookieName string `json:"cookie_name"`
		Jar        [][2]string
		Value      string
	} `json:"session_store_edge"`
}

type vector struct {
	ID         string
	Secret     any    // a string, or several
	CookieName string `json:"cookie_name"`
	Token      string
	Cookies    [][2]string // when the token is in several
	Expect     string
	PayloadOut map[string]any `json:"payload_out"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	file, err := os.Open("testdata/authjs.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in := json.NewDecoder(file)
	in.UseNumber()
	var v vectors
	if err := in.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v vector) secrets() []string {
	if list, ok := v.Secret.([]any); ok {
		var secrets []string
		for _, s := range list {
			secrets = append(secrets, s.(string))
		}
		return secrets
	}
	return []string{v.Secret.(string)}
}

// header returns the header of a request with the cookies of the vector.
func (v vector) header() http.Header {
	cookies := v.Cookies
	if cookies == nil {
		cookies = [][2]string{{v.CookieName, v.Token}}
	}
	var pairs []string
	for _, c := range cookies {
		pairs = append(pairs, c[0]+"="+c[1])
	}
	return http.Header{"Cookie": {strings.Join(pairs, "; ")}}
}

// onPurpose are the vectors that are read in another way than by the library,
// and why.
var onPurpose = map[string]string{
	"v4/enc_A128CBC-HS256":                      "refused: no release of next-auth makes such a token; it decodes one only because it allows every enc",
	"v4/salted_decodes_with_its_salt":           "refused: it is the state cookie of a sign-in, not a session",
	"v5/cbc_no_kid_second_secret":               "read: both configured secrets are valid, and an app that has only the second one reads it",
	"v5/a256gcm_no_kid_second_secret":           "read: for the same reason",
	"cross/v4_token_read_as_v5":                 "read: the name of the cookie does not say which version the app uses",
	"jws/alg_HS512_header_but_allow_HS256_only": "read: the secret verifies HS256, HS384 and HS512, as in jsonwebtoken without a list of algorithms",
}

func TestTokensOfTheRealLibraries(t *testing.T) {
	all := readVectors(t)
	for _, v := range append(all.Vectors, all.Signed...) {
		t.Run(v.ID, func(t *testing.T) {
			want := v.Expect == "ok"
			if _, deviates := onPurpose[v.ID]; deviates {
				want = !want
			}
			rd, err := New(Config{Secrets: v.secrets(), CookieNames: []string{cmp.Or(v.CookieName, "next-auth.session-token")}})
			if err != nil {
				t.Fatal(err)
			}
			v.CookieName = cmp.Or(v.CookieName, "next-auth.session-token")
			s := read(rd, v.header())
			if got := len(s.Tokens) == 1; got != want {
				t.Fatalf("read: %t (%s), the library: %s", got, s.Failure, v.Expect)
			}
			if !want {
				if s.Failure != Undecodable && s.Failure != Expired {
					t.Errorf("failure %q", s.Failure)
				}
				return
			}
			if v.PayloadOut == nil {
				return
			}
			claims := s.Tokens[0].Claims
			if wantSubject := formats.Subject(v.PayloadOut, "sub"); string(claims.Subject) != wantSubject {
				t.Errorf("subject %q, want %q", claims.Subject, wantSubject)
			}
			for name, got := range map[string]time.Time{"iat": claims.IssuedAt, "exp": claims.ExpiresAt} {
				value, present, _ := numericDate(v.PayloadOut, name)
				if present == got.IsZero() || present && !got.Equal(formats.Seconds(value)) {
					t.Errorf("%s is %v, want %v", name, got, v.PayloadOut[name])
				}
			}
		})
	}
	for id := range onPurpose {
		found := false
		for _, v := range append(all.Vectors, all.Signed...) {
			found = found || v.ID == id
		}
		if !found {
			t.Errorf("%s is no vector", id)
		}
	}
}

func TestIdsInOtherClaims(t *testing.T) {
	byID := make(map[string]vector)
	all := readVectors(t)
	for _, v := range append(all.Vectors, all.Signed...) {
		byID[v.ID] = v
	}
	for _, c := range []struct{ id, path, want string }{
		{"v4/big_integer_id", "userId", "9007199254740991"},
		{"v4/big_integer_id", "id", "12345678901"},
		{"v4/nested_user", "user.id", "7"},
		{"v4/nested_user", "user.profile.uid", "u_7"},
		{"v4/nested_user", "user", ""},
		{"v4/nested_user", "user.absent", ""},
		{"jws/HS256_nested_hasura", "https://hasura.io/jwt/claims.x-hasura-user-id", "7"},
		{"jws/HS256_numeric_sub", "sub", "42"},
		{"v4/number_sub", "sub", "42"},
		{"v4/basic", "email", "ada@example.com"},
	} {
		t.Run(c.id+" "+c.path, func(t *testing.T) {
			v := byID[c.id]
			rd, err := New(Config{Secrets: v.secrets(), CookieNames: []string{v.CookieName}, Subject: c.path})
			if err != nil {
				t.Fatal(err)
			}
			s := read(rd, v.header())
			if len(s.Tokens) != 1 || string(s.Tokens[0].Claims.Subject) != c.want {
				t.Errorf("read %+v, want %q", s, c.want)
			}
		})
	}
}

func TestCookiesAreJoinedAsTheRealSessionStoreDoes(t *testing.T) {
	for _, c := range readVectors(t).SessionStoreEdge {
		t.Run(c.Lib+"/"+c.Case, func(t *testing.T) {
			var group []cookie
			for _, pair := range c.Jar {
				if strings.HasPrefix(pair[0], c.CookieName) {
					group = append(group, cookie{pair[0], pair[1], pair[0] + "=" + pair[1], authJS})
				}
			}
			got := ""
			if len(group) > 0 {
				got = join(group, strings.HasPrefix(c.Lib, "@auth/core")).text
			}
			if got != c.Value {
				t.Errorf("joined %q, want %q", got, c.Value)
			}
		})
	}
}
