package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// handler takes what a handler needs with a secret and modules.
func handler(t *testing.T, secret string, modules Modules) (held *Held, taken [3]any) {
	t.Helper()
	held = new(Held)
	reader, err := held.Reader(environment.New(), session.TokenOptions{Secrets: []string{secret}}, nil, 0)
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

func TestAListTakesOverWhatTheOneBeforeKnows(t *testing.T) {
	here := Modules{directories.Postgres{Database: "postgres://u@127.0.0.1:1/here"}}
	held := new(Held)
	users, err := held.Directory(here, directory.Config{Logger: zap.NewNop, Poll: -1})
	if err != nil {
		t.Fatal(err)
	}
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	list := func(options revocation.Revocations) *revocation.List {
		t.Helper()
		l, err := held.Revoked(&options, storage, users)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := list(revocation.Revocations{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // that its stores are away is not waited for
	_ = before.Revoke(ctx, revocation.Revocation{Subject: "ada", At: time.Now()})
	for what, options := range map[string]revocation.Revocations{
		"with another life":   {Life: caddy.Duration(time.Hour)},
		"in Redis, in future": {Redis: "redis://127.0.0.1:1"},
	} {
		if _, found := list(options).Find([]byte("ada")); !found {
			t.Errorf("%s: a revocation is lost", what)
		}
	}
	there, err := held.Directory(Modules{directories.Postgres{Database: "postgres://u@127.0.0.1:1/there"}}, directory.Config{Logger: zap.NewNop, Poll: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"others", users.String()} {
		users = there
		if _, found := list(revocation.Revocations{Name: name}).Find([]byte("ada")); found {
			t.Errorf("other users take it over too, as %s", name)
		}
	}
	if err := held.Release(); err != nil {
		t.Error(err)
	}
}

func TestAKeySetIsReadAgainOnceItsFileHasChanged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "jwks.json")
	write := func(id string) {
		t.Helper()
		text := `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"` + id + `","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held := new(Held)
	read := func() (*jose.JWKS, *session.Reader) {
		t.Helper()
		keys, err := held.keySet(file)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := held.Reader(environment.New(), session.TokenOptions{JWKS: file}, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		return keys, reader
	}
	write("a")
	keys, reader := read()
	if sameKeys, sameReader := read(); sameKeys != keys || sameReader != reader {
		t.Error("the same file has two key sets, or readers")
	}
	write("b")
	if otherKeys, otherReader := read(); otherKeys == keys || otherReader == reader {
		t.Error("the old keys are kept")
	}
	if err := held.Release(); err != nil {
		t.Error(err)
	}
}

func TestReadersAreSharedByTheirKeysAndClaims(t *testing.T) {
	keyFile := func(curve elliptic.Curve) string {
		t.Helper()
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	held := new(Held)
	read := func(options session.TokenOptions, match ...string) *session.Reader {
		t.Helper()
		reader, err := held.Reader(environment.New(), options, match, 0)
		if err != nil {
			t.Fatal(err)
		}
		return reader
	}
	files := []string{keyFile(elliptic.P256()), keyFile(elliptic.P256()), keyFile(elliptic.P384())}
	seen := make(map[*session.Reader]bool)
	for _, file := range files {
		reader := read(session.TokenOptions{KeyFile: file})
		if read(session.TokenOptions{KeyFile: file}) != reader {
			t.Error("the same key has two readers")
		}
		seen[reader] = true
		seen[read(session.TokenOptions{KeyFile: file}, "email")] = true
		seen[read(session.TokenOptions{KeyFile: file, Secrets: []string{"a secret"}})] = true
	}
	if len(seen) != 3*len(files) {
		t.Errorf("%d readers, want one for each key, claims and secret: %d", len(seen), 3*len(files))
	}
	if err := held.Release(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsLentIsKeptUntilItIsReturned(t *testing.T) {
	var lent Lent
	given := make(chan struct{})
	lent.Keep(func() { close(given) })
	for range 2 {
		if !lent.Borrow() {
			t.Fatal("it cannot be borrowed")
		}
	}
	if err := lent.Release(); err != nil {
		t.Fatal(err)
	}
	lent.Return()
	if !lent.Borrow() {
		t.Error("what is still in use cannot be borrowed")
	}
	lent.Return()
	select {
	case <-given:
		t.Fatal("it is given back while it is in use")
	default:
	}
	lent.Return()
	<-given
	if lent.Borrow() {
		t.Error("it can be borrowed after it was given back")
	}
}

func TestWhatWasTakenLastIsGivenBackFirst(t *testing.T) {
	var held Held
	var order []int
	for i := range 3 {
		held.Keep(func() { order = append(order, i) })
	}
	if err := held.Release(); err != nil || !slices.Equal(order, []int{2, 1, 0}) {
		t.Errorf("%v, %v", order, err)
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
