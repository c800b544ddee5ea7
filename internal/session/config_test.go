package session

import "testing"

func TestConfigurationsThatCannotBeRight(t *testing.T) {
	for name, c := range map[string]Config{
		"no key":             {},
		"an empty secret":    {Secrets: []string{"a", ""}},
		"an empty name":      {Secrets: []string{"a"}, CookieNames: []string{""}},
		"a name with blanks": {Secrets: []string{"a"}, CookieNames: []string{"a b"}},
		"a name with =":      {Secrets: []string{"a"}, CookieNames: []string{"a=b"}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
