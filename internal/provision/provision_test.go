package provision

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// handler takes what a handler needs with a secret and modules.
func handler(t *testing.T, secret string, modules Modules) (held *Held, taken [3]any) {
	t.Helper()
	held = new(Held)
	reader, err := held.Reader(environment.New(), Tokens{Secrets: []string{secret}})
	if err != nil {
		t.Fatal(err)
	}
	users, err := held.Directory(modules, directory.Config{Logger: zap.NewNop})
	if err != nil {
		t.Fatal(err)
	}
	list, err := held.Revoked(nil, &certmagic.FileStorage{Path: "nowhere"}, users)
	if err != nil {
		t.Fatal(err)
	}
	return held, [3]any{reader, users, list}
}

func inUse() [3]int { return [3]int{len(Readers()), len(Directories()), len(Lists())} }

func TestHandlersShareWhatIsTheSameUntilTheLastHasGone(t *testing.T) {
	here := Modules{directories.Postgres{Database: "postgres://u@127.0.0.1:1/here"}}
	there := Modules{&directories.Postgres{Database: "postgres://u@127.0.0.1:1/there"}}
	first, one := handler(t, "a secret", here)
	second, same := handler(t, "a secret", here)
	third, other := handler(t, "another secret", there)
	for i, what := range []string{"reader", "directory", "list"} {
		if one[i] != same[i] {
			t.Errorf("the same options have two %ss", what)
		}
		if one[i] == other[i] {
			t.Errorf("other options have the same %s", what)
		}
	}
	for _, step := range []struct {
		gone *Held
		left [3]int
	}{{first, [3]int{2, 2, 2}}, {first, [3]int{2, 2, 2}}, {second, [3]int{1, 1, 1}}, {third, [3]int{}}} {
		if err := step.gone.Release(); err != nil {
			t.Error(err)
		}
		if left := inUse(); left != step.left {
			t.Errorf("%v readers, directories and lists are in use, want %v", left, step.left)
		}
	}
}

func TestAChainIsSharedOnlyByTheSameDirectories(t *testing.T) {
	t.Setenv("REDIS_URL", "redis://127.0.0.1:1")
	chain := func(disabled ...string) Modules {
		users := &directories.Users{Disabled: disabled}
		return Modules{&directories.Redis{}, &directories.Postgres{Database: "postgres://u@127.0.0.1:1/here", Users: users}}
	}
	before, one := handler(t, "a secret", chain())
	same, two := handler(t, "a secret", chain())
	after, other := handler(t, "a secret", chain("banned"))
	if one[1] != two[1] {
		t.Error("the same chain is there twice")
	}
	if one[1] == other[1] {
		t.Error("with other options the chain is the same")
	}
	for _, gone := range []*Held{before, same, after} {
		if err := gone.Release(); err != nil {
			t.Error(err)
		}
	}
}

func TestEverythingIsGivenBackThoughSomeOfItFails(t *testing.T) {
	var held Held
	kept := false
	held.Keep(func() { kept = true })
	away := errors.New("it is away")
	held.releases = append(held.releases, func() error { return away })
	last := false
	held.Keep(func() { last = true })
	if err := held.Release(); !errors.Is(err, away) || !kept || !last {
		t.Errorf("error %v, given back: %t and %t", err, kept, last)
	}
}

func TestModulesMatchTheSameClaims(t *testing.T) {
	by := func(claims ...string) *directories.Redis {
		r := &directories.Redis{Match: map[string]string{}}
		for _, claim := range claims {
			r.Match[claim] = claim
		}
		return r
	}
	users := directories.Postgres{Users: &directories.Users{Match: map[string]string{"email": "email", "stamp": "stamp"}}}
	for name, c := range map[string]struct {
		modules Modules
		claims  []string
		fails   string
	}{
		"none":           {Modules{directories.Postgres{}}, nil, ""},
		"of one":         {Modules{users}, []string{"email", "stamp"}, ""},
		"of both":        {Modules{by("stamp", "email"), &users}, []string{"email", "stamp"}, ""},
		"of one of two":  {Modules{by("email"), users}, nil, "all have to match the same"},
		"of no module":   {Modules{"a text"}, nil, "string is no directory"},
		"of the default": {Modules{by(), directories.Postgres{}}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			claims, err := c.modules.Matched()
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Fatalf("error %v, want %q", err, c.fails)
			}
			if !slices.Equal(claims, c.claims) {
				t.Errorf("claims %q, want %q", claims, c.claims)
			}
		})
	}
}

func TestAChainKnowsItsPostgres(t *testing.T) {
	first, last := directories.Postgres{Database: "first"}, &directories.Postgres{Database: "last"}
	if p, found := (Modules{first, &directories.Redis{}, last}).Postgres(); !found || p.Database != "last" {
		t.Errorf("%q, %t", p.Database, found)
	}
	if _, found := (Modules{&directories.Redis{}}).Postgres(); found {
		t.Error("Redis is taken for Postgres")
	}
}

func TestRevocationsThatCannotBeKept(t *testing.T) {
	users, err := directory.Open(directory.Config{DSN: func() (string, error) { return "postgres://u@127.0.0.1:1/d", nil }, Logger: zap.NewNop})
	if err != nil {
		t.Fatal(err)
	}
	defer users.Close()
	for says, options := range map[string]revocation.Revocations{
		"must not be negative":                         {Life: -1},
		"revocations: the address of Redis must be":    {Redis: "http://:hunter2@127.0.0.1:1"},
		"evaluated placeholder {env.NOT_SET} is empty": {Redis: "{env.NOT_SET}"},
	} {
		var held Held
		if _, err := held.Revoked(&options, &certmagic.FileStorage{Path: "nowhere"}, users); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
