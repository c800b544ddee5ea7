package environment

import (
	"slices"
	"strings"
	"testing"
)

// clean sets the app's variables as given, and unsets the others, during a test.
func clean(t *testing.T, set map[string]string) {
	t.Helper()
	for _, name := range []string{"AUTH_URL", "NEXTAUTH_URL", "AUTH_SECRET", "NEXTAUTH_SECRET"} {
		t.Setenv(name, set[name])
	}
}

func TestAuthPath(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"nothing set":                {nil, "/api/auth"},
		"only an origin":             {map[string]string{"NEXTAUTH_URL": "https://app.example"}, "/api/auth"},
		"an origin with a slash":     {map[string]string{"NEXTAUTH_URL": "https://app.example/"}, "/api/auth"},
		"v4 with a base path":        {map[string]string{"NEXTAUTH_URL": "https://app.example/base/api/auth/"}, "/base/api/auth"},
		"v5 with a base path":        {map[string]string{"AUTH_URL": "https://app.example/auth"}, "/auth"},
		"v5 goes before v4":          {map[string]string{"AUTH_URL": "https://a.example/five", "NEXTAUTH_URL": "https://a.example/four"}, "/five"},
		"v5's origin goes before v4": {map[string]string{"AUTH_URL": "https://a.example", "NEXTAUTH_URL": "https://a.example/four"}, "/api/auth"},
		"no scheme, as v4 permits":   {map[string]string{"NEXTAUTH_URL": "localhost:3000/x"}, "/x"},
		"an invalid URL":             {map[string]string{"AUTH_URL": "https://[::1"}, "/api/auth"},
	} {
		t.Run(name, func(t *testing.T) {
			clean(t, c.env)
			if got := New().AuthPath(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestOrigin(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"nothing set":              {nil, ""},
		"v4":                       {map[string]string{"NEXTAUTH_URL": "http://localhost:3000/api/auth"}, "http://localhost:3000"},
		"v5 goes before v4":        {map[string]string{"AUTH_URL": "https://five.example/auth", "NEXTAUTH_URL": "https://four.example"}, "https://five.example"},
		"no scheme, as v4 permits": {map[string]string{"NEXTAUTH_URL": "app.example"}, "https://app.example"},
		"an invalid URL":           {map[string]string{"AUTH_URL": "https://[::1"}, ""},
		"a password":               {map[string]string{"AUTH_URL": "https://u:p@app.example"}, "https://app.example"},
		"a password in pieces":     {map[string]string{"AUTH_URL": "https://u:1234/56@app.example"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			clean(t, c.env)
			if got := New().Origin(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	clean(t, map[string]string{"AUTH_SECRET": "five", "NEXTAUTH_SECRET": "four"})
	if got, err := New().Secrets(); err != nil || !slices.Equal(got, []string{"five", "four"}) {
		t.Errorf("got %v, %v", got, err)
	}
	clean(t, map[string]string{"NEXTAUTH_SECRET": "four"})
	if got, err := New().Secrets(); err != nil || !slices.Equal(got, []string{"four"}) {
		t.Errorf("got %v, %v", got, err)
	}
	clean(t, nil)
	if _, err := New().Secrets(); err == nil || !strings.Contains(err.Error(), "NEXTAUTH_SECRET") {
		t.Errorf("error %v does not say what to set", err)
	}
}

func TestFillNamesTheOptionAndThePlaceholder(t *testing.T) {
	t.Setenv("STALE_TEST_EMPTY", "")
	t.Setenv("STALE_TEST_FULL", "hunter2")
	if got, err := New().Fill("database", "postgres://u:{env.STALE_TEST_FULL}@h/d"); err != nil || got != "postgres://u:hunter2@h/d" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"{env.STALE_TEST_FULL}{env.STALE_TEST_EMPTY}", "{env.STALE_TEST_FULL}{nonsense}"} {
		_, err := New().Fill("database", text)
		if err == nil || !strings.HasPrefix(err.Error(), "database: ") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v", text, err)
		}
	}
	for _, text := range []string{"postgres://u:{Secret}@h/d", "{$ecret}", "a{env}Secret}", "{http.Secret}"} {
		_, err := New().Fill("database", text)
		if err == nil || strings.Contains(err.Error(), "ecret") || !strings.Contains(err.Error(), `\{`) {
			t.Errorf("%s: error %v", text, err)
		}
	}
	if _, err := New().FillAll("secret", []string{""}); err == nil {
		t.Error("an empty secret is accepted")
	}
}
