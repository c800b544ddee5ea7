package session

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

func TestATokenIsDecryptedOnce(t *testing.T) {
	rd := newReader(t, Config{})
	header := http.Header{"Cookie": {v4Name + "=" + v4(t, "ada")}}
	for range 3 {
		if s := read(rd, header); len(s.Tokens) != 1 || string(s.Tokens[0].Claims.Subject) != "ada" {
			t.Fatalf("read %+v", s)
		}
	}
	if n := rd.Stats().Entries; n != 1 {
		t.Errorf("%d tokens are remembered", n)
	}
}

func TestARememberedTokenExpiresAllTheSame(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	rd := newReader(t, Config{Now: func() time.Time { return now }})
	token, err := mint.V4(secret, map[string]any{"sub": "ada", "exp": now.Add(time.Minute).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Cookie": {v4Name + "=" + token}}
	for _, c := range []struct {
		after time.Duration
		want  Failure
	}{{0, ""}, {time.Minute, ""}, {14 * time.Second, ""}, {time.Second, Expired}, {time.Hour, Expired}} {
		now = now.Add(c.after)
		if s := read(rd, header); s.Failure != c.want {
			t.Errorf("at %s: failure %q, want %q", now, s.Failure, c.want)
		}
	}
	if n := rd.Stats().Entries; n != 0 {
		t.Errorf("%d tokens are remembered", n)
	}
}

func TestATokenIsRememberedForItsCookieOnly(t *testing.T) {
	rd := newReader(t, Config{})
	token := v5(t, v5Name, "ada")
	if s := read(rd, http.Header{"Cookie": {v5Name + "=" + token}}); len(s.Tokens) != 1 {
		t.Fatal(s.Failure)
	}
	if s := read(rd, http.Header{"Cookie": {"__Secure-" + v5Name + "=" + token}}); len(s.Tokens) != 0 {
		t.Error("read under a name whose key does not open it")
	}
}

func TestOnlyTokensOfTheAppAreRemembered(t *testing.T) {
	rd := newReader(t, Config{})
	token := v4(t, "ada")
	for i := range 1000 {
		read(rd, http.Header{"Cookie": {v4Name + "=" + token[:len(token)-8] + strconv.Itoa(10000000+i)}, "Authorization": {"Bearer a.b." + strconv.Itoa(i)}})
	}
	if n := rd.Stats().Entries; n != 0 {
		t.Errorf("%d tokens are remembered", n)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	const bytes = 1 << 20
	tokens := newTokenCache(bytes)
	now := time.Now()
	subject := make([]byte, 200)
	for i := range 4 * bytes / len(subject) {
		tokens.put(tokens.digest("name", strconv.Itoa(i)), now, &Claims{Subject: subject})
	}
	if n := tokens.entries.Stats().Entries; n == 0 || n > bytes/int64(len(subject)) {
		t.Errorf("%d tokens of %d bytes are remembered in %d", n, len(subject), bytes)
	}
	if tokens.entries.Stats().Evictions == 0 {
		t.Error("none was given up")
	}
}

func TestClaimsAreReadAsTheyWereWritten(t *testing.T) {
	second := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]Claims{
		"none":              {},
		"the usual":         {Subject: []byte("ada"), IssuedAt: second, MintedAt: second, ExpiresAt: second.Add(time.Hour)},
		"a sign-in before":  {Subject: []byte("ada"), IssuedAt: second, MintedAt: second.Add(time.Hour)},
		"that is named":     {Subject: []byte("ada"), IssuedAt: second, MintedAt: second, Lasting: true},
		"no iat":            {Subject: []byte("ada"), IssuedAt: second},
		"nothing but iat":   {MintedAt: second},
		"fractions":         {Subject: []byte("ada"), IssuedAt: second, MintedAt: second.Add(time.Millisecond), ExpiresAt: second},
		"before 1970":       {IssuedAt: time.Unix(-1, 0), MintedAt: time.Unix(-1, 0)},
		"beyond 32 bits":    {Subject: []byte("ada"), ExpiresAt: time.Unix(1<<32, 0)},
		"the last second":   {Subject: []byte("ada"), ExpiresAt: time.Unix(1<<32-1, 0)},
		"the start of 1970": {Subject: []byte("ada"), IssuedAt: time.Unix(0, 0), MintedAt: time.Unix(0, 0)},
		"matched claims":    {Subject: []byte("ada"), Match: [][]byte{[]byte("a@b.c"), nil, {}}},
		"a long subject":    {Subject: make([]byte, 255), MintedAt: second},
	} {
		var got Claims
		got.encoded = c.appendTo(nil)
		got.decode()
		if got.Lasting != c.Lasting || !got.IssuedAt.Equal(c.IssuedAt) || !got.MintedAt.Equal(c.MintedAt) || !got.ExpiresAt.Equal(c.ExpiresAt) ||
			got.IssuedAt.IsZero() != c.IssuedAt.IsZero() || string(got.Subject) != string(c.Subject) ||
			fmt.Sprintf("%q", got.Match) != fmt.Sprintf("%q", append([][]byte{}, c.Match...)) {
			t.Errorf("%s: %+v", name, &got)
		}
	}
}

// An attacker cannot evict tokens by sending invalid ones.
func TestTokensThatCannotBeReadDriveOutNone(t *testing.T) {
	rd := newReader(t, Config{CacheBytes: 1}) // the minimum size is used
	good := make([]http.Header, 100)
	for i := range good {
		good[i] = http.Header{"Cookie": {v4Name + "=" + v4(t, "user"+strconv.Itoa(i))}}
		read(rd, good[i])
	}
	token := v4(t, "ada")
	for i := range 20_000 {
		number := strconv.Itoa(10_000_000 + i)
		read(rd, http.Header{"Cookie": {v4Name + "=" + token[:len(token)-8] + number}, "Authorization": {"Bearer a." + number + ".c"}})
	}
	before := rd.Stats()
	for i := range good {
		if s := read(rd, good[i]); len(s.Tokens) != 1 || string(s.Tokens[0].Claims.Subject) != "user"+strconv.Itoa(i) {
			t.Fatalf("read %+v", s)
		}
	}
	if after := rd.Stats(); after.Hits-before.Hits != int64(len(good)) || after.Evictions != 0 || after.Entries != int64(len(good)) {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestATokenIsNotHeldLongerThanItLasts(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tokens := newTokenCache(1)
	key := tokens.digest("name", "token")
	tokens.put(key, now, &Claims{Subject: []byte("ada"), ExpiresAt: now.Add(time.Minute)})
	for _, c := range []struct {
		after time.Duration
		held  bool
	}{{time.Minute, true}, {time.Minute + clockTolerance - time.Second, true}, {time.Minute + clockTolerance + 2*time.Second, false}} {
		if _, held := tokens.entries.Get(key[:], nil, now.Add(c.after)); held != c.held {
			t.Errorf("after %s it is held: %t", c.after, held)
		}
	}
}
