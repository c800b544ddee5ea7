package session

import (
	"strings"
	"testing"
)

func FuzzJoined(f *testing.F) {
	f.Add("a.1 a a.0 a.-x a.10 a.0x9")
	f.Fuzz(func(t *testing.T, names string) {
		var jar []cookie
		for i, name := range strings.Fields(names) {
			if i == maxCookies {
				break
			}
			jar = append(jar, cookie{name, "<" + name + ">", name + "=<" + name + ">", authJS})
		}
		jar = distinct(jar, false)
		if len(jar) == 0 {
			return
		}
		got := join(jar, len(names)%2 == 0) // no value is empty
		length := 0
		for _, c := range jar {
			length += len(c.value)
			if !strings.Contains(got.text, c.value) {
				t.Errorf("%q lost %q", got.text, c.value)
			}
		}
		if len(got.text) != length || len(got.from) != len(jar) {
			t.Errorf("%q joins to %q", names, got.text)
		}
	})
}
