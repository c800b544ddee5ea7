package session

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzToken decodes mutations of the libraries' own vectors. No mutation may
// have a new subject, and none may be read without the key.
func FuzzToken(f *testing.F) {
	all := readVectors(f)
	secrets := make(map[string]bool)
	for _, v := range append(all.Vectors, all.Signed...) {
		for _, s := range v.secrets() {
			secrets[s] = true
		}
		if v.Token != "" && len(v.Token) < 2000 {
			f.Add(v.Token)
		}
	}
	config := Config{}
	for s := range secrets {
		config.Secrets = append(config.Secrets, s)
	}
	rd := newReader(f, config)
	without := newReader(f, Config{Secrets: []string{"a secret that made none of them"}})
	subjects := make(map[string]bool)
	for _, v := range append(all.Vectors, all.Signed...) {
		var s Session
		rd.ReadToken(v.Token, &s)
		for _, token := range s.Tokens {
			subjects[string(token.Claims.Subject)] = true
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		var s Session
		rd.ReadToken(token, &s)
		for _, read := range s.Tokens {
			if !subjects[string(read.Claims.Subject)] {
				t.Errorf("%q names %q, whom no token names", token, read.Claims.Subject)
			}
		}
		var none Session
		without.ReadToken(token, &none)
		if len(none.Tokens) > 0 {
			t.Errorf("%q was read without its key", token)
		}
		for _, base := range DefaultCookieNames {
			var claims Claims
			_ = rd.decode(base, token, &Session{At: time.Now()}, &claims) // must not panic
		}
	})
}

// FuzzJar reads mutations of the Cookie fields of the libraries' own vectors.
// Strip must remove whatever was read.
func FuzzJar(f *testing.F) {
	for _, v := range readVectors(f).Vectors {
		if line := v.header()["Cookie"][0]; len(line) < 4000 {
			f.Add(line)
		}
	}
	rd := newReader(f, Config{Secrets: []string{"kx3m0Vt7b2y9QmXn5o1Zr8uLwE4sJfGcHdPaTiNvYqA="}})
	f.Fuzz(func(t *testing.T, line string) {
		h := http.Header{"Cookie": strings.Split(line, "\n")}
		var s Session
		rd.Read(h, &s)
		for _, token := range s.Tokens {
			for _, name := range token.Names {
				if !strings.Contains(line, name) {
					t.Errorf("%q holds no %q", line, name)
				}
			}
		}
		rd.Strip(h)
		var left Session
		if rd.Read(h, &left); len(left.Names) > 0 || len(left.Tokens) > 0 {
			t.Errorf("%q leaves %q", line, h)
		}
	})
}
