package cookie

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

func TestReadingsOfACookieAndItsChunks(t *testing.T) {
	t.Parallel()
	zero, one := Chunks{Separator: ".", Count: 4}, Chunks{Separator: "__", First: 1, Count: 2}
	for name, c := range map[string]struct {
		chunks  Chunks
		cookies string
		want    string
	}{
		"whole":                       {zero, "s=whole", "whole"},
		"in chunks":                   {zero, "s.1=b s.0=a", "ab"},
		"both":                        {zero, "s=whole s.0=a s.1=b", "whole ab"},
		"an empty one before chunks":  {zero, "s= s.0=a", "a"},
		"a gap":                       {zero, "s.0=a s.2=c", "ac a"},
		"an empty chunk":              {zero, "s.0=a s.1= s.2=c", "ac a"},
		"the first and the last":      {zero, "s.0=a s.0=x s.1=b", "ab xb"},
		"more than the library reads": {zero, "s.0=a s.4=e", "a"},
		"of another cookie":           {zero, "s-x.0=a sx=b s.x=c s.01=d", ""},
		"from one on":                 {one, "s__0=a s__1=b s__2=c s__3=d", "bc"},
	} {
		var parts []formats.Part
		for _, cookie := range strings.Fields(c.cookies) {
			name, value, _ := strings.Cut(cookie, "=")
			parts = append(parts, formats.Part{Name: name, Value: value})
		}
		var got []string
		for _, r := range c.chunks.Readings(parts, "s") {
			got = append(got, r.Text)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: read %q, want %q", name, got, c.want)
		}
	}
}

// environment has variables only.
type environment map[string]string

func (environment) Fill(_, text string) (string, error) {
	if text == "{env.NONE}" {
		return "", errors.New("no such variable")
	}
	return text, nil
}
func (e environment) Variable(name string) string                   { return e[name] }
func (environment) Verifier(formats.Keys) (formats.Verifier, error) { return nil, nil }

func TestKeys(t *testing.T) {
	t.Parallel()
	long := func(secret string) bool { return len(secret) > 3 }
	env := environment{"A": "long a", "B": "b", "C": "long c", "D": "long a"}
	for name, c := range map[string]struct {
		options   Options
		variables []string
		want      []string
		noKey     bool
	}{
		"of the environment":             {Options{}, []string{"A", "B", "C", "D"}, []string{"long a", "long c"}, false},
		"configured":                     {Options{Secrets: []string{"b"}}, []string{"A"}, []string{"b"}, false},
		"none":                           {Options{}, []string{"E"}, nil, true},
		"none that the library may have": {Options{}, []string{"B"}, nil, true},
		"a placeholder of none":          {Options{Secrets: []string{"{env.NONE}"}}, nil, nil, false},
		"empty":                          {Options{Secrets: []string{""}}, nil, nil, false},
	} {
		got, err := c.options.Keys(env, long, c.variables...)
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) || errors.Is(err, formats.ErrNoKey) != c.noKey {
			t.Errorf("%s: %q, error %v", name, got, err)
		}
	}
}

func TestWhoIsSignedIn(t *testing.T) {
	t.Parallel()
	now := time.Now()
	claims := map[string]any{"user": map[string]any{"id": "ada"}, "id": "the session"}
	for name, c := range map[string]struct {
		subject string
		expires time.Time
		want    string
		guessed bool
		err     error
	}{
		"at a place that is guessed": {"", now.Add(time.Second), "ada", true, nil},
		"at the one that is set":     {"id", time.Time{}, "the session", false, nil},
		"nobody at the one that is":  {"userId", time.Time{}, "", false, formats.ErrNobody},
		"expired":                    {"", now, "", false, formats.ErrExpired},
		"expired, and nobody":        {"userId", now, "", false, formats.ErrExpired},
	} {
		s, err := (&Options{Subject: c.subject}).Session(claims, "", c.expires, now, "userId", "user.id")
		if s.Subject != c.want || s.Guessed != c.guessed || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, error %v", name, s, err)
		}
	}
}
