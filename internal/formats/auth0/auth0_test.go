package auth0

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/formats/cookie"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/reads"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/vectors"
)

const secret = "a secret of sessions"

func TestSessionsOfTheRealLibrary(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Read(t, "testdata/vectors.json") {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			module := &Auth0{cookie.Options{Secrets: v.Keys(), Subject: v.Path}}
			if v.ID == "auth0-custom-name" {
				module.Cookies = []string{v.Cookies[0][0]}
			}
			reads.Check(t, reads.Reader(t, module), &v, "")
		})
	}
}

func TestWhatIsDecrypted(t *testing.T) {
	t.Parallel()
	d, err := New([]string{"another secret", secret})
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	token := func(header map[string]any, exp any) string {
		value := map[string]any{"user": map[string]any{"sub": "auth0|1"}}
		if exp != nil {
			value["exp"] = exp
		}
		text, err := mint.Auth0(secret, header, value)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	usual := token(nil, end.Unix())
	f := strings.Split(usual, ".")
	for name, c := range map[string]struct {
		text    string
		want    bool
		expires time.Time
	}{
		"of version 4":                    {usual, true, end.Add(15 * time.Second)},
		"of version 3":                    {token(map[string]any{"iat": 1, "uat": 1, "exp": 2}, nil), true, time.Time{}},
		"with the tag's end in another":   {strings.Join([]string{f[0], f[1], f[2], f[3] + f[4][:4], f[4][4:]}, "."), len(f[3])%4 == 0, end.Add(15 * time.Second)},
		"with blanks, which jose ignores": {f[0] + "." + f[1] + "." + f[2] + " ." + f[3][:4] + "\n" + f[3][4:] + "." + f[4], true, end.Add(15 * time.Second)},
		"with an end that is no number":   {token(nil, "soon"), false, time.Time{}},
		"with another field":              {token(map[string]any{"zip": "DEF"}, end.Unix()), false, time.Time{}},
		"with the id of a key":            {token(map[string]any{"kid": "x"}, end.Unix()), false, time.Time{}},
		"without its last part":           {strings.Join(f[:4], "."), false, time.Time{}},
		"with an encrypted key":           {strings.Join([]string{f[0], "x", f[2], f[3], f[4]}, "."), false, time.Time{}},
		"without a nonce":                 {strings.Join([]string{f[0], "", "", f[3], f[4]}, "."), false, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			payload, expires, err := d.Decrypt(c.text)
			if (err == nil) != c.want || c.want && vectors.Find(payload, "user.sub") != "auth0|1" {
				t.Fatalf("read %v: %v", payload, err)
			}
			if c.want && !expires.Equal(c.expires) {
				t.Errorf("expires %v, want %v", expires, c.expires)
			}
		})
	}
}

// TestTheUsersColumnIsNotGuessed shows that the format is off until somebody says where
// its users are, although there is a secret.
func TestTheUsersColumnIsNotGuessed(t *testing.T) {
	t.Setenv("AUTH0_SECRET", secret)
	open := func(options cookie.Options) error {
		_, err := new(provision.Resources).Reader(environment.New(), provision.Sessions{Formats: []caddy.Module{&Auth0{options}}})
		return err
	}
	if err := open(cookie.Options{}); !errors.Is(err, formats.ErrNoKey) || !strings.Contains(err.Error(), "subject user.sub") || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v", err)
	}
	if err := open(cookie.Options{Subject: "user.sub"}); err != nil {
		t.Error(err)
	}
}

func TestAnEmptySecretIsNone(t *testing.T) {
	t.Parallel()
	if _, err := New([]string{""}); err == nil {
		t.Error("no error")
	}
}

// FuzzDecrypt decrypts mutations of sessions. None may be read without the secret, and
// none names anybody new.
func FuzzDecrypt(f *testing.F) {
	for _, v := range vectors.Read(f, "testdata/vectors.json") {
		if text := v.Text(); len(text) < 2000 {
			f.Add(text)
		}
	}
	d, err := New([]string{"a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90"})
	if err != nil {
		f.Fatal(err)
	}
	without, err := New([]string{secret})
	if err != nil {
		f.Fatal(err)
	}
	subjects := map[string]bool{"": true, "auth0|65a1f0c2b7e4d90012345678": true}
	f.Fuzz(func(t *testing.T, text string) {
		payload, _, err := d.Decrypt(text)
		if err == nil && !subjects[vectors.Find(payload, "user.sub")] {
			t.Errorf("%q names %v, whom no session names", text, payload)
		}
		if _, _, err := without.Decrypt(text); err == nil {
			t.Errorf("%q was read without its secret", text)
		}
	})
}

// TestChunksOfOneNumberAreReadTogether has names whose numbers are the same to the
// library, which counts them and does not compare them.
func TestChunksOfOneNumberAreReadTogether(t *testing.T) {
	t.Parallel()
	const first, second = "eyJlbmMiOiJBMjU2", "R0NNIiwiYWxnIjoiZGlyIn0..aXY.dGV4dA.dGFn"
	f := &format{names: []string{"__session"}}
	for name, c := range map[string]struct {
		parts []formats.Part
		want  string
	}{
		"current":            {[]formats.Part{{Name: "__session__1", Value: first}, {Name: "__session__01", Value: second}}, first + second},
		"old":                {[]formats.Part{{Name: "__session.1", Value: first}, {Name: "__session.01", Value: second}}, first + second},
		"after another":      {[]formats.Part{{Name: "__session__10", Value: second}, {Name: "__session__002", Value: ""}, {Name: "__session__2", Value: first}}, first + second},
		"the last of a name": {[]formats.Part{{Name: "__session__1", Value: "x"}, {Name: "__session__01", Value: second}, {Name: "__session__1", Value: first}}, first + second},
	} {
		var texts []string
		for _, r := range f.Readings(c.parts) {
			texts = append(texts, r.Text)
		}
		if !slices.Contains(texts, c.want) {
			t.Errorf("%s: %q", name, texts)
		}
	}
}
