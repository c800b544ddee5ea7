package session

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/mint"
)

func TestATokenIsDecryptedOnce(t *testing.T) {
	rd := newReader(t, Config{})
	header := http.Header{"Cookie": {v4Name + "=" + v4(t, "ada")}}
	for range 3 {
		if s := read(rd, header); len(s.Tokens) != 1 || string(s.Tokens[0].Claims.Subject) != "ada" {
			t.Fatalf("read %+v", s)
		}
	}
	if n := rd.decoded.cache.Stats().Entries; n != 1 {
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
	if n := rd.decoded.cache.Stats().Entries; n != 0 {
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
	if n := rd.decoded.cache.Stats().Entries; n != 0 {
		t.Errorf("%d tokens are remembered", n)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	const bytes = 1 << 20
	d := newDecoded(bytes)
	now := time.Now()
	subject := make([]byte, 200)
	for i := range 4 * bytes / len(subject) {
		d.keep(d.digest("name", strconv.Itoa(i)), now, &Claims{Subject: subject})
	}
	if n := d.cache.Stats().Entries; n == 0 || n > bytes/int64(len(subject)) {
		t.Errorf("%d tokens of %d bytes are remembered in %d", n, len(subject), bytes)
	}
	if d.cache.Stats().Evictions == 0 {
		t.Error("none was given up")
	}
}
