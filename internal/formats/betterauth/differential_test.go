package betterauth

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
)

// TestTheRealLibraryReadsNothingThatIsNotRead writes caches in other ways than Better
// Auth does, and asks the real one which of them it accepts.
func TestTheRealLibraryReadsNothingThatIsNotRead(t *testing.T) {
	if err := npm.Install(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	now := time.Now()
	c := newCache("a1", "ada")
	c.signedIn, c.made, c.ends, c.expires = now.Add(-time.Hour), now.Add(-time.Minute), now.Add(time.Hour), now.Add(24*time.Hour)
	c.extra = `,"email":"ada@example.com","emailVerified":true,"createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z","note":"\u0001\"\\/é😀","rank":1.5e+21,"small":1e-7,"zero":0,"list":[1,{"a":null}]`
	for strategy, data64 := range strategies {
		rd := reader(t, Module{Secrets: []string{secret}}, nil, now)
		value := data64(t, secret, c)
		fields := []string{"better-auth.session_token=" + sign(secret, "a1") + "; better-auth.session_data=" + value}
		for range 300 {
			other := value
			if strategy == "compact" {
				other = base64.RawURLEncoding.EncodeToString([]byte(rewrite(random, c.envelope(secret))))
			}
			fields = append(fields, jar(random, sign(secret, "a1"), reencode(random, other)))
		}
		accepted, same := 0, 0
		for i, user := range readByTheReal(t, strategy, fields) {
			got := seen(rd, http.Header{"Cookie": {fields[i]}})
			if user != "" {
				accepted++
			}
			if slices.Contains(strings.Fields(got), user) || user == "" && !slices.Contains(strings.Fields(got), "ada") {
				same++
			} else if user != "" {
				t.Errorf("%s: the real one reads %q, and here it is %q, in %s (seed %d)", strategy, user, got, fields[i], seed)
			}
		}
		if accepted < len(fields)/4 {
			t.Errorf("%s: the real one accepts %d of %d", strategy, accepted, len(fields))
		}
		t.Logf("%s: the real one accepts %d of %d; %d are read alike", strategy, accepted, len(fields), same)
	}
}

// readByTheReal returns whose sessions the real library takes some Cookie fields for.
func readByTheReal(t *testing.T, strategy string, fields []string) []string {
	t.Helper()
	var in strings.Builder
	for _, field := range fields {
		var latin1 []rune // as Node reads a header
		for i := range len(field) {
			latin1 = append(latin1, rune(field[i]))
		}
		line, err := json.Marshal(string(latin1))
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), "node", "cache.mjs")
	cmd.Dir, cmd.Stdin, cmd.Stderr = "app", strings.NewReader(in.String()), os.Stderr
	cmd.Env = append(os.Environ(), "STRATEGY="+strategy, "BETTER_AUTH_SECRET="+secret, "BETTER_AUTH_URL=http://127.0.0.1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var users []string
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		var user string
		if err := json.Unmarshal(lines.Bytes(), &user); err != nil {
			t.Fatal(err)
		}
		users = append(users, user)
	}
	if len(users) != len(fields) {
		t.Fatalf("%d answers to %d fields", len(users), len(fields))
	}
	return users
}

// rewrite writes JSON in another way, mostly one that means the same.
func rewrite(random *rand.Rand, text string) string {
	swaps := [][2]string{
		{`"user":{`, `"user" : {`},
		{`"Ada"`, `"\u0041da"`},
		{`"Ada"`, `"A\u0064a"`},
		{`\\/`, `\u005c\/`},
		{`😀`, `\ud83d\uDE00`},
		{`é`, `\u00E9`},
		{`\u0001`, `\U0001`},
		{`1.5e+21`, `1500000000000000000000`},
		{`1.5e+21`, `15E20`},
		{`1e-7`, `0.0000001`},
		{`"zero":0`, `"zero":-0`},
		{`"zero":0`, `"zero":0.0e5`},
		{`"zero":0`, `"zero":00`},
		{`[1,{`, "[\n1\t,\r{"},
		{`null`, ` null `},
		{`.000Z`, `Z`},
		{`.000Z`, `.0Z`},
		{`.000Z`, `.0009Z`},
		{`2026-01-01T00`, `2025-12-31T24`},
		{`2026-01-01T00`, `2025-12-32T00`},
		{`"name":"Ada"`, `"name":"Bob","name":"Ada"`},
		{`"name":"Ada"`, `"name":"Ada","name":"Bob"`},
		{`{"session":{"session"`, `{"x":[[]],"session":{"session"`},
		{`{"session":{"session"`, `{"Session":1,"session":{"session"`},
		{`"version":"1"`, `"version":"1","0":1`},
		{`"signature":"`, `"signature":"=","signature":"`},
		{`"session":{"expires`, `"\u0073ession":{"expires`},
		{`"}`, `=="}`},
		{`"expiresAt":1`, `"expiresAt": 1`},
		{`{`, ` {`},
		{`}`, "\n}"},
		{`{`, "\ufeff{"},
		{`:`, `::`},
		{`Ada`, "A\xffda"},
	}
	for range 1 + random.IntN(3) {
		swap := swaps[random.IntN(len(swaps))]
		text = strings.Replace(text, swap[0], swap[1], 1)
	}
	return text
}

// reencode writes the value of a cookie in another way.
func reencode(random *rand.Rand, value string) string {
	switch random.IntN(10) {
	case 0:
		return value + "="
	case 1:
		return value + "==x"
	case 2:
		return strings.NewReplacer("-", "+", "_", "/").Replace(value)
	case 3:
		return value + "A"
	case 4:
		at := random.IntN(len(value))
		return value[:at] + fmt.Sprintf("%%%02x", value[at]) + value[at+1:]
	case 5:
		at := random.IntN(len(value))
		return value[:at] + string("A. %\"-_"[random.IntN(7)]) + value[at:]
	}
	return value
}

// jar puts a session into cookies in some way.
func jar(random *rand.Rand, token, data string) string {
	const tokenName, dataName = "better-auth.session_token", "better-auth.session_data"
	at := random.IntN(len(data))
	switch random.IntN(12) {
	case 0:
		return dataName + ".0=" + data[:at] + "; " + dataName + ".1=" + data[at:] + "; " + tokenName + "=" + token
	case 1:
		return dataName + ".5=" + data[at:] + ";" + dataName + ".2=" + data[:at] + ";" + tokenName + "=" + token
	case 2:
		return tokenName + `="` + token + `"; ` + dataName + `="` + data + `"`
	case 3:
		return tokenName + "=" + token + "; " + tokenName + "=x; " + dataName + "=" + data + "; " + dataName + "=x"
	case 4:
		return tokenName + "; " + tokenName + "=" + token + "; " + dataName + "=; " + dataName + ".0=" + data
	case 5:
		return "\t" + tokenName + " = " + token + " ;\xa0" + dataName + "\xa0=" + data
	case 6:
		return dataName + "=" + data + "; " + dataName + ".0=x; " + tokenName + "=" + strings.ReplaceAll(token, "%", "%25")
	case 7:
		return dataName + ".00=" + data + "; " + tokenName + "=" + token
	}
	return tokenName + "=" + token + "; " + dataName + "=" + data
}
