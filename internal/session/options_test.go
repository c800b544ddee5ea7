package session

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

func parseOptions(t *testing.T, block string) (o TokenOptions) {
	t.Helper()
	d := caddyfile.NewTestDispenser("tokens {\n" + block + "\n}")
	d.Next()
	if err := directive.Block(d, "tokens", o.Options()); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestTheOptionsOfTokens(t *testing.T) {
	got := parseOptions(t, "secret a b\nkey_file keys.pem\njwks https://id.example/jwks.json\nissuer me\naudience app\ncookie sid my.sid\nsubject user.id\nissued_at loginAt")
	want := TokenOptions{
		Secrets: []string{"a", "b"}, KeyFile: "keys.pem", JWKS: "https://id.example/jwks.json", Issuer: "me", Audience: "app",
		Cookies: []string{"sid", "my.sid"}, Subject: "user.id", IssuedAt: "loginAt",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("parsed %+v, want %+v", got, want)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"secrets":["a","b"],"key_file":"keys.pem","jwks":"https://id.example/jwks.json","issuer":"me","audience":"app","cookies":["sid","my.sid"],"subject":"user.id","issued_at":"loginAt"}`; string(text) != want {
		t.Errorf("JSON %s, want %s", text, want)
	}
}

// publicKey is an Ed25519 key (RFC 8032, section 7.1).
const publicKey = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n"

func TestTheConfigOfOptions(t *testing.T) {
	keyFile := filepath.Join(t.TempDir(), "keys.pem")
	if err := os.WriteFile(keyFile, []byte(publicKey), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AUTH_SECRET", "five")
	t.Setenv("NEXTAUTH_SECRET", "four")
	t.Setenv("SECRET", "a secret")
	t.Setenv("NAME", "sid")
	t.Setenv("KEYS", keyFile)
	t.Setenv("ISSUER", "me")
	set := new(jose.JWKS)
	for name, c := range map[string]struct {
		options TokenOptions
		want    Config
		keys    int
		set     string
	}{
		"none": {TokenOptions{}, Config{Secrets: []string{"five", "four"}, CookieNames: DefaultCookieNames}, 0, ""},
		"placeholders": {
			TokenOptions{Secrets: []string{"{env.SECRET}"}, Cookies: []string{"{env.NAME}"}, Issuer: "{env.ISSUER}", Audience: "{env.ISSUER}", Subject: "id", IssuedAt: "at"},
			Config{Secrets: []string{"a secret"}, CookieNames: []string{"sid"}, Issuer: "me", Audience: "me", Subject: "id", IssuedAt: "at"},
			0, "",
		},
		"a key file": {TokenOptions{KeyFile: "{env.KEYS}"}, Config{Secrets: []string{}, CookieNames: DefaultCookieNames}, 1, ""},
		"a key set":  {TokenOptions{JWKS: "https://{env.ISSUER}/"}, Config{Secrets: []string{}, CookieNames: DefaultCookieNames, JWKS: set}, 0, "https://me/"},
	} {
		t.Run(name, func(t *testing.T) {
			opened := ""
			got, err := c.options.Config(environment.New(), func(location string) (*jose.JWKS, error) {
				opened = location
				return set, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			keys := len(got.PublicKeys)
			got.PublicKeys = nil
			if !reflect.DeepEqual(got, c.want) || keys != c.keys || opened != c.set {
				t.Errorf("%+v with %d public keys and the set %q; want %+v with %d and %q", got, keys, opened, c.want, c.keys, c.set)
			}
		})
	}
}

func TestOptionsThatCannotBeUsed(t *testing.T) {
	t.Setenv("AUTH_SECRET", "")
	t.Setenv("NEXTAUTH_SECRET", "")
	file := filepath.Join(t.TempDir(), "keys.pem")
	if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, options := range map[string]TokenOptions{
		"no secret to read session cookies": {},
		"cookies: evaluated placeholder":    {Cookies: []string{"{env.NOT_SET}"}},
		"secrets: evaluated placeholder":    {Secrets: []string{"hunter2{env.NOT_SET}"}},
		"issuer: evaluated placeholder":     {Secrets: []string{"a"}, Issuer: "{env.NOT_SET}"},
		"audience: evaluated placeholder":   {Secrets: []string{"a"}, Audience: "{env.NOT_SET}"},
		"key_file: evaluated placeholder":   {KeyFile: "{env.NOT_SET}"},
		"key_file: open /nowhere/keys.pem":  {KeyFile: "/nowhere/keys.pem"},
		"key_file: no public key found":     {KeyFile: file},
		"jwks: evaluated placeholder":       {JWKS: "{env.NOT_SET}"},
		"the set cannot be opened":          {JWKS: "/nowhere/jwks.json"},
	} {
		_, err := options.Config(environment.New(), func(string) (*jose.JWKS, error) { return nil, errors.New("the set cannot be opened") })
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if names, err := new(TokenOptions).CookieNames(environment.New()); err != nil || !slices.Equal(names, DefaultCookieNames) {
		t.Errorf("names %q, error %v", names, err)
	}
}
