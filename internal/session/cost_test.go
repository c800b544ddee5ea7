package session

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
)

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signed returns a token without iat, whose id makes it another one.
func signed(t testing.TB, method jwt.SigningMethod, key any, id int) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "ada", "jti": id}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// fields returns n lines or cookies.
func fields(n int, field func(i int) string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = field(i)
	}
	return all
}

// filled returns the text of as many pieces as fit into 15 KB, which Caddy accepts.
func filled(piece func(i int) string) string {
	var text strings.Builder
	for i := 0; text.Len() < 15_000; i++ {
		text.WriteString(piece(i))
	}
	return text.String()
}

// TestNoRequestCostsMuchMoreThanAGoodOne pins what requests cost that are made to
// cost much: signatures, and allocations.
func TestNoRequestCostsMuchMoreThanAGoodOne(t *testing.T) {
	other := ecKey(t, elliptic.P521())
	large := newReader(t, Config{CookieNames: []string{"s"}, PublicKeys: []crypto.PublicKey{ecKey(t, elliptic.P521()).Public()}})
	three := newReader(t, Config{CookieNames: []string{"s"}, PublicKeys: []crypto.PublicKey{
		ecKey(t, elliptic.P256()).Public(), ecKey(t, elliptic.P256()).Public(), ecKey(t, elliptic.P256()).Public(),
	}})
	usual := newReader(t, Config{})
	es512 := func(i int) string { return signed(t, jwt.SigningMethodES512, other, i) }
	key := ecKey(t, elliptic.P256())
	es256 := func(i int) string { return signed(t, jwt.SigningMethodES256, key, i) }
	bearer := func(token func(int) string) func(int) string {
		return func(i int) string { return "Bearer " + token(i) }
	}
	again := es512(1000)
	for name, c := range map[string]struct {
		reader      *Reader
		header      http.Header
		signatures  int // that are verified, the first time
		tooLarge    bool
		allocations float64 // when it comes again, at most; some are left for the race detector
	}{
		"57 forged bearers and 64 cookies": {large, http.Header{
			"Authorization": fields(57, bearer(es512)), "Cookie": fields(64, func(i int) string { return "s=" + es512(100+i) }),
		}, 0, true, 60},
		"57 forged bearers":              {large, http.Header{"Authorization": fields(57, bearer(es512))}, 0, true, 60},
		"four forged bearers":            {large, http.Header{"Authorization": fields(4, bearer(es512))}, 4, false, 60},
		"a forged one, wherever it fits": {large, http.Header{"Authorization": fields(4, func(int) string { return "Bearer " + again }), "Cookie": {"s=" + again + "; s.0=" + again}}, 1, false, 60},
		"forged ones for three keys":     {three, http.Header{"Authorization": fields(2, bearer(es256)), "Cookie": {"s=" + es256(10)}}, 6, true, 60},
		"one for three keys":             {three, http.Header{"Cookie": {"s=" + es256(20)}}, 3, false, 60},
		"distinct names":                 {large, http.Header{"Cookie": {filled(func(i int) string { return fmt.Sprintf("s%x;", i) })}}, 0, true, 60},
		"cookies of one name":            {large, http.Header{"Cookie": {filled(func(int) string { return "s=;" })}}, 0, true, 60},
		"escapes in a value":             {large, http.Header{"Cookie": {"s=" + filled(func(int) string { return "%41" })}}, 0, false, 60},
		"escapes in a name":              {usual, http.Header{"Cookie": {filled(func(int) string { return "%41" }) + "=x"}}, 0, false, 60},
		"names of escapes":               {large, http.Header{"Cookie": {"x=s " + filled(func(int) string { return "%41 " })}}, 0, false, 60},
		"blanks around signs":            {large, http.Header{"Cookie": {"s=s " + filled(func(int) string { return "a = " })}}, 0, false, 60},
		"tokens that blanks separate":    {large, http.Header{"Cookie": {"x=s " + filled(func(i int) string { return fmt.Sprintf("s=a.%x.b ", i) })}}, 0, true, 800},
		"blanks in a bearer":             {usual, http.Header{"Authorization": {"Bearer" + filled(func(int) string { return " " }) + "x"}}, 0, false, 60},
	} {
		t.Run(name, func(t *testing.T) {
			s := read(c.reader, c.header)
			if s.signatures != c.signatures || s.TooLarge != c.tooLarge || len(s.Tokens) > 0 {
				t.Errorf("%d signatures, want %d; too large %t; %d tokens", s.signatures, c.signatures, s.TooLarge, len(s.Tokens))
			}
			allocations := testing.AllocsPerRun(5, func() {
				*s = Session{}
				c.reader.Read(c.header, s)
			})
			if s.signatures > 0 && !c.tooLarge || allocations > c.allocations {
				t.Errorf("again: %d signatures, %.0f allocations", s.signatures, allocations)
			}
			before := c.reader.failures.entries.Stats()
			if c.reader.Strip(c.header.Clone()); c.reader.failures.entries.Stats() != before {
				t.Error("stripping verifies it again")
			}
		})
	}
}

// TestAForgedTokenIsRememberedUntilTheKeysChange has a key set that comes to contain
// the key of a token that was sent before.
func TestAForgedTokenIsRememberedUntilTheKeysChange(t *testing.T) {
	t.Parallel()
	before, after := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	var rotated atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		key := gojose.JSONWebKey{Key: before.Public(), KeyID: "before"}
		if rotated.Load() {
			key = gojose.JSONWebKey{Key: after.Public(), KeyID: "after"}
		}
		text, err := key.MarshalJSON()
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, `{"keys":[%s]}`, text)
	}))
	t.Cleanup(server.Close)
	keys, err := jose.OpenJWKS(server.URL, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	rd := newReader(t, Config{JWKS: keys})
	cookie := func(token string) http.Header { return http.Header{"Cookie": {v4Name + "=" + token}} }
	early := cookie(signed(t, jwt.SigningMethodES256, after, 1))
	eventually.Holds(t, "the key set was fetched", func() bool { return read(rd, early).Failure == Undecodable })
	if s := read(rd, early); s.signatures != 0 || s.Failure != Undecodable {
		t.Errorf("again: %d signatures, %s", s.signatures, s.Failure)
	}
	rotated.Store(true)
	named := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "bob"})
	named.Header["kid"] = "after"
	text, err := named.SignedString(after)
	if err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "a token of a new key is read", func() bool { return len(read(rd, cookie(text)).Tokens) == 1 })
	if s := read(rd, early); len(s.Tokens) != 1 {
		t.Errorf("the one from before the rotation: %s", s.Failure)
	}
}

func TestAnExpiredSignedTokenIsVerifiedOnce(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	rd := newReader(t, Config{PublicKeys: []crypto.PublicKey{key.Public()}})
	for _, claims := range []jwt.MapClaims{{"sub": "ada", "exp": 1}, {"sub": "ada", "exp": 1, "nbf": 0}} {
		token, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if s := read(rd, http.Header{"Cookie": {v4Name + "=" + token}}); s.Failure != Expired || s.signatures != 1-i {
				t.Errorf("%v: %s, %d signatures", claims, s.Failure, s.signatures)
			}
		}
	}
}

// TestATokenInDisguiseIsStillTheSame has a valid token with characters that decoding
// ignores: it is remembered once, and since it was seen first.
func TestATokenInDisguiseIsStillTheSame(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"signed": signed(t, jwt.SigningMethodHS256, []byte(secret), 1), "encrypted, v4": v4(t, "ada"), "encrypted, v5": v5(t, v4Name, "ada"),
	} {
		rd := newReader(t, Config{})
		first := read(rd, http.Header{"Cookie": {v4Name + "=" + token}})
		seen := first.Tokens[0].Claims.ReadAt
		for i := range 8 {
			end := len(token) - i%4
			disguise := token[:end] + "~" + token[end:] + "=="
			if i >= 4 {
				disguise += fmt.Sprint(i) // ignored, too
			}
			s := read(rd, http.Header{"Cookie": {v4Name + "=" + disguise}})
			if len(s.Tokens) != 1 || s.signatures != 0 {
				t.Fatalf("%s: %d tokens, %d signatures", name, len(s.Tokens), s.signatures)
			}
			if claims := &s.Tokens[0].Claims; claims.First || seen.Sub(claims.ReadAt).Abs() > 1000 {
				t.Errorf("%s: for the first time %t, read %s after the first", name, claims.First, claims.ReadAt.Sub(seen))
			}
		}
		if n := rd.Stats().Entries; n != 1 {
			t.Errorf("%s: %d tokens are remembered", name, n)
		}
	}
}

// An attacker cannot evict tokens by sending forged ones, which are remembered too.
func TestForgedTokensDriveOutNone(t *testing.T) {
	t.Parallel()
	rd := newReader(t, Config{CacheBytes: 1}) // the minimum size is used
	good := http.Header{"Cookie": {v4Name + "=" + signed(t, jwt.SigningMethodHS256, []byte(secret), 1)}}
	read(rd, good)
	for i := range 20_000 {
		signature := base64.RawURLEncoding.EncodeToString(fmt.Append(nil, i))
		read(rd, http.Header{"Cookie": {v4Name + "=eyJhbGciOiJIUzI1NiJ9.e30." + signature}})
	}
	if s := read(rd, good); s.signatures != 0 || len(s.Tokens) != 1 || rd.Stats().Entries != 1 {
		t.Errorf("%d signatures, %d tokens, %d remembered", s.signatures, len(s.Tokens), rd.Stats().Entries)
	}
	if n := rd.failures.entries.Stats().Entries; n == 0 || n > 20_000 {
		t.Errorf("%d forged ones are remembered", n)
	}
}

func TestMoreFieldsThanAreReadReachNoApp(t *testing.T) {
	t.Parallel()
	rd := newReader(t, Config{})
	token := v4(t, "ada")
	header := http.Header{"Authorization": append(fields(4, func(int) string { return "Bearer x" }), "Bearer "+token)}
	if s := read(rd, header); !s.TooLarge {
		t.Error("the last one is not read, and passes")
	}
	if rd.Strip(header); len(header["Authorization"]) != 4 {
		t.Errorf("left %q", header["Authorization"])
	}
}
