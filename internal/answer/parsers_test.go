package answer

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
)

// parsers parses callbacks and redirects as JavaScript and the redirect callbacks of
// NextAuth v4 and Auth.js v5 do, and prints those that lead to another origin.
const parsers = `
const legacy = require('node:url');
const base = 'https://app.test';
const callback = (url) => url.startsWith('/') ? base + url : new URL(url).origin === base ? url : base; // next-auth 4.24, @auth/core 0.41
const bad = [];
for (const { callback: back, location } of JSON.parse(require('node:fs').readFileSync(0))) {
	const origins = [
		new URL(back, base + '/auth/signin').origin, new URL(back, base).origin, new URL(callback(back)).origin, new URL(base + back).origin,
		new URL(location, base + '/admin').origin, new URL(decodeURIComponent(back.split('?')[0]), base).origin,
	];
	const hosts = [legacy.parse(back).host, legacy.parse(back, false, true).host, legacy.parse(location, false, true).host];
	const given = new URL(location, base).searchParams.getAll('callbackUrl');
	if (origins.some((origin) => origin !== base) || hosts.some((host) => host !== null) || given.length !== 1 || given[0] !== back) bad.push({ back, location, origins, hosts, given });
}
console.log(JSON.stringify(bad));
`

// TestTheWayBackLeadsNowhereElseInAnyParser has Node parse the callbacks of thousands
// of addresses made of hostile parts.
func TestTheWayBackLeadsNowhereElseInAnyParser(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 0))
	pieces := append([]string{"/", "//", "\\", "%5c", "%2f", "@", ":", "?", "#", ";", ".", "..", "%2e", "evil.example", "http:", "javascript:", "a", "%", "%00", "%09", "%0a", "&", "=", "%E3%80%82", "é", "%C3%A9", "[::1]", "|", "^", "`", "{", "\"", "<", "%u002f"}, hostile...)
	type redirect struct {
		Callback string `json:"callback"`
		Location string `json:"location"`
	}
	var redirects []redirect
	a := newResponder(t, Answers{})
	try := func(target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		if back := wayBack(&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}, true); back != "" {
			redirects = append(redirects, redirect{back, a.location(back)})
		}
	}
	for _, target := range hostile {
		for _, prefix := range []string{"", "/a", "/admin/"} {
			try(prefix + target)
		}
	}
	for range 200_000 {
		var target strings.Builder
		target.WriteString("/")
		for range 1 + random.IntN(6) {
			target.WriteString(pieces[random.IntN(len(pieces))])
		}
		try(target.String())
	}
	if len(redirects) < 10_000 {
		t.Fatalf("only %d addresses have a callback", len(redirects))
	}
	text, err := json.Marshal(redirects)
	if err != nil {
		t.Fatal(err)
	}
	node := exec.CommandContext(t.Context(), "node", "-e", parsers)
	node.Stdin = bytes.NewReader(text)
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	if got := strings.TrimSpace(string(out)); got != "[]" {
		t.Errorf("of %d, these lead elsewhere: %.2000s", len(redirects), got)
	}
}
