package uuid

import "testing"

func TestCanonical(t *testing.T) {
	t.Parallel()
	const want = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
	for _, text := range []string{
		want, "7D444840-9DC0-11D1-B245-5FFDCE74FAD2", "7d4448409dc011d1b2455ffdce74fad2", "{7d444840-9dc0-11d1-b245-5ffdce74fad2}",
		"7d44-4840-9dc0-11d1-b245-5ffd-ce74-fad2",
	} {
		if got, ok := Canonical([]byte(text)); !ok || string(got) != want {
			t.Errorf("%s is %s, %t", text, got, ok)
		}
	}
	for _, text := range []string{
		"", "42", "clx1abcde0000xyz", "urn:uuid:" + want, want + "0", want[1:], " " + want, "{" + want, "7d4-448409dc011d1b2455ffdce74fad2", "7d444840--9dc011d1b2455ffdce74fad2",
		"7d444840-9dc0-11d1-b245-5ffdce74fad2-", "zd444840-9dc0-11d1-b245-5ffdce74fad2",
	} {
		if got, ok := Canonical([]byte(text)); ok {
			t.Errorf("%s is %s", text, got)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add([]byte("{7D444840-9dc011d1-b245-5ffdce74fad2}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := Canonical(text)
		if !ok {
			return
		}
		if again, ok := Canonical(got); !ok || string(again) != string(got) {
			t.Errorf("%q is %q, which is %q, %t", text, got, again, ok)
		}
	})
}
