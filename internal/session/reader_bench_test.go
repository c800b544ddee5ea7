package session

import (
	"net/http"
	"strings"
	"testing"
)

func BenchmarkOpen(b *testing.B) {
	rd := newReader(b, Config{})
	for name, c := range map[string]struct{ base, token string }{
		"v4": {v4Name, v4(b, "clx0a1b2c0000qwer1234tyui")},
		"v5": {v5Name, v5(b, v5Name, "clx0a1b2c0000qwer1234tyui")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, failure := rd.open(c.base, c.token); failure != "" {
					b.Fatal(failure)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	rd := newReader(b, Config{})
	for name, line := range map[string]string{
		"no session": "theme=dark; _ga=GA1.2.3; next-auth.csrf-token=abc",
		"v4":         "theme=dark; " + v4Name + "=" + v4(b, "clx0a1b2c0000qwer1234tyui"),
		"v5":         "theme=dark; " + v5Name + "=" + v5(b, v5Name, "clx0a1b2c0000qwer1234tyui"),
		"garbage":    v4Name + "=" + strings.Repeat("x", 4096),
	} {
		b.Run(name, func(b *testing.B) {
			header := http.Header{"Cookie": {line}}
			b.ReportAllocs()
			s := new(Session)
			for b.Loop() {
				*s = Session{}
				rd.Read(header, s)
			}
		})
	}
}
