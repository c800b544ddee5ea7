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

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	_ "github.com/seed-4adef13c/caddy-stale-session/internal/redis" // registers its module
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// handler acquires the reader, engine and list of a handler.
func handler(t *testing.T, secret string, module directories.Module) (resources *Resources, acquired [3]any) {
	t.Helper()
	resources = new(Resources)
	reader, err := resources.Reader(environment.New(), Sessions{Tokens: session.TokenOptions{Secrets: []string{secret}}})
	if err != nil {
		t.Fatal(err)
	}
	users, err := resources.Accounts(module, accounts.Config{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := resources.Revocations(nil, &certmagic.FileStorage{Path: "nowhere"}, users)
	if err != nil {
		t.Fatal(err)
	}
	return resources, [3]any{reader, users, list}
}

// postgresModule returns the module of a database.
func postgresModule(dsn string) directories.Module {
	return &postgres.Module{DatabaseOptions: postgres.DatabaseOptions{Database: dsn}}
}

func inUse() [3]int { return [3]int{len(Readers()), len(Engines()), len(Lists())} }

func TestHandlersWithTheSameOptionsShareResources(t *testing.T) {
	here := postgresModule("postgres://u@127.0.0.1:1/here")
	there := postgresModule("postgres://u@127.0.0.1:1/there")
	first, one := handler(t, "a secret", here)
	second, same := handler(t, "a secret", here)
	third, other := handler(t, "another secret", there)
	for i, what := range []string{"reader", "engine", "list"} {
		if one[i] != same[i] {
			t.Errorf("the same options have two %ss", what)
		}
		if one[i] == other[i] {
			t.Errorf("different options share a %s", what)
		}
	}
	for _, step := range []struct {
		released *Resources
		left     [3]int
	}{{first, [3]int{2, 2, 2}}, {first, [3]int{2, 2, 2}}, {second, [3]int{1, 1, 1}}, {third, [3]int{}}} {
		if err := step.released.Release(); err != nil {
			t.Error(err)
		}
		if left := inUse(); left != step.left {
			t.Errorf("%v readers, engines and lists are in use, want %v", left, step.left)
		}
	}
}

func TestAListAdoptsTheRevocationsOfTheOneItReplaces(t *testing.T) {
	here := postgresModule("postgres://u@127.0.0.1:1/here")
	resources := new(Resources)
	users, err := resources.Accounts(here, accounts.Config{Poll: -1})
	if err != nil {
		t.Fatal(err)
	}
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	list := func(options revocation.Revocations) *revocation.List {
		t.Helper()
		l, err := resources.Revocations(&options, storage, users)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := list(revocation.Revocations{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // so that it does not wait for its stores, which are down
	_ = before.Revoke(ctx, revocation.Revocation{Subject: "ada", At: time.Now()})
	for what, options := range map[string]revocation.Revocations{
		"another life": {Life: caddy.Duration(time.Hour)},
		"now in Redis": {Redis: "redis://127.0.0.1:1"},
	} {
		if _, found := list(options).Find([]byte("ada")); !found {
			t.Errorf("%s: the revocation is lost", what)
		}
	}
	there, err := resources.Accounts(postgresModule("postgres://u@127.0.0.1:1/there"), accounts.Config{Poll: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"others", users.String()} {
		users = there
		if _, found := list(revocation.Revocations{Name: name}).Find([]byte("ada")); found {
			t.Errorf("named %s, the list of other users adopts it", name)
		}
	}
	if err := resources.Release(); err != nil {
		t.Error(err)
	}
}

func TestAChangedFileIsAnotherKeySet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "jwks.json")
	write := func(id string) {
		t.Helper()
		text := `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"` + id + `","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	resources := new(Resources)
	read := func() (*jose.JWKS, *session.Reader) {
		t.Helper()
		keys, err := resources.KeySet(file)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := resources.Reader(environment.New(), Sessions{Tokens: session.TokenOptions{JWKS: file}})
		if err != nil {
			t.Fatal(err)
		}
		return keys, reader
	}
	write("a")
	keys, reader := read()
	if sameKeys, sameReader := read(); sameKeys != keys || sameReader != reader {
		t.Error("the same file has two key sets or readers")
	}
	write("b")
	if otherKeys, otherReader := read(); otherKeys == keys || otherReader == reader {
		t.Error("the old keys are still used")
	}
	if err := resources.Release(); err != nil {
		t.Error(err)
	}
}

func TestReadersWithDifferentKeysOrClaimsAreNotShared(t *testing.T) {
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
	resources := new(Resources)
	read := func(options session.TokenOptions, match ...string) *session.Reader {
		t.Helper()
		reader, err := resources.Reader(environment.New(), Sessions{Tokens: options, Match: match})
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
		t.Errorf("%d readers, want %d: one for each key, claims and secret", len(seen), 3*len(files))
	}
	if read(session.TokenOptions{Secrets: []string{"\xfe"}}) == read(session.TokenOptions{Secrets: []string{"\xff"}}) {
		t.Error("two secrets that are not text share a reader")
	}
	if err := resources.Release(); err != nil {
		t.Error(err)
	}
}

func TestALeaseLastsUntilTheLastRequestReleasesIt(t *testing.T) {
	var lease Lease
	released := make(chan struct{})
	lease.Defer(func() { close(released) })
	for range 2 {
		if !lease.Acquire() {
			t.Fatal("cannot acquire the lease")
		}
	}
	if err := lease.End(); err != nil {
		t.Fatal(err)
	}
	lease.Release()
	if !lease.Acquire() {
		t.Error("cannot acquire a lease that is in use")
	}
	lease.Release()
	select {
	case <-released:
		t.Fatal("released while in use")
	default:
	}
	lease.Release()
	<-released
	if lease.Acquire() {
		t.Error("acquired after the release")
	}
}

func TestResourcesAreReleasedInReverseOrder(t *testing.T) {
	var resources Resources
	var order []int
	for i := range 3 {
		resources.Defer(func() { order = append(order, i) })
	}
	if err := resources.Release(); err != nil || !slices.Equal(order, []int{2, 1, 0}) {
		t.Errorf("%v, %v", order, err)
	}
}

func TestEnginesWithDifferentOptionsAreNotShared(t *testing.T) {
	module := func(disabled ...string) directories.Module {
		return &postgres.Module{DatabaseOptions: postgres.DatabaseOptions{Database: "postgres://u@127.0.0.1:1/here", Users: &postgres.Users{Disabled: disabled}}}
	}
	before, one := handler(t, "a secret", module())
	same, two := handler(t, "a secret", module())
	after, other := handler(t, "a secret", module("banned"))
	if one[1] != two[1] {
		t.Error("the same options have two engines")
	}
	if one[1] == other[1] {
		t.Error("different options share an engine")
	}
	for _, resources := range []*Resources{before, same, after} {
		if err := resources.Release(); err != nil {
			t.Error(err)
		}
	}
}

func TestAFailedReleaseDoesNotStopTheOthers(t *testing.T) {
	var resources Resources
	first, last := false, false
	failure := errors.New("down")
	resources.Defer(func() { first = true })
	resources.releases = append(resources.releases, func() error { return failure })
	resources.Defer(func() { last = true })
	if err := resources.Release(); !errors.Is(err, failure) || !first || !last {
		t.Errorf("error %v, released: %t and %t", err, first, last)
	}
}

func TestInvalidOptionsOfRevocations(t *testing.T) {
	directory, err := postgresModule("postgres://u@127.0.0.1:1/d").OpenDirectory()
	if err != nil {
		t.Fatal(err)
	}
	users := accounts.Open(directory, accounts.Config{})
	defer users.Close()
	for says, options := range map[string]revocation.Revocations{
		"must not be negative":                         {Life: -1},
		"or longer than 400 days":                      {Life: caddy.Duration(401 * 24 * time.Hour)},
		"revocations: the address of Redis must be":    {Redis: "http://:hunter2@127.0.0.1:1"},
		"evaluated placeholder {env.NOT_SET} is empty": {Redis: "{env.NOT_SET}"},
	} {
		var resources Resources
		if _, err := resources.Revocations(&options, &certmagic.FileStorage{Path: "nowhere"}, users); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
