package signals

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	gojose "github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

const issuer = "https://id.example"

// now is the time at which requests arrive.
var now = time.Now().Truncate(time.Second)

// provider has two keys in its set, and one that is not.
type provider struct {
	rsa, other *rsa.PrivateKey
	ec         *ecdsa.PrivateKey
	file       string // its key set
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	p := new(provider)
	var err error
	for _, key := range []**rsa.PrivateKey{&p.rsa, &p.other} {
		if *key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	if p.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(gojose.JSONWebKeySet{Keys: []gojose.JSONWebKey{
		{Key: p.rsa.Public(), KeyID: "r", Algorithm: "RS256", Use: "sig"}, {Key: p.ec.Public(), KeyID: "e", Algorithm: "ES256", Use: "sig"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.file = filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(p.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// sign signs claims with the provider's RSA key. A typ of "" leaves it out.
func (p *provider) sign(t testing.TB, typ string, claims map[string]any) string {
	t.Helper()
	return sign(t, jwt.SigningMethodRS256, p.rsa, "r", typ, claims)
}

func sign(t testing.TB, method jwt.SigningMethod, key any, id, typ string, claims map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	token.Header["kid"] = id
	if token.Header["typ"] = typ; typ == "" {
		delete(token.Header, "typ")
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// keys implements Keys.
type keys struct{}

func (keys) KeySet(location string) (*jose.JWKS, error) {
	return jose.OpenJWKS(location, func(error) {})
}

func (keys) DiscoverKeySet(metadata, issuer string) (*jose.JWKS, error) {
	return jose.DiscoverJWKS(metadata, issuer, func(error) {})
}

// people finds users by "provider sub", and by address.
type people map[string][]string

var errAway = errors.New("the database is down")

func (p people) ByAccount(_ context.Context, providers []string, sub string) (found []string, err error) {
	if p == nil {
		return nil, errAway
	}
	for _, provider := range providers {
		found = append(found, p[provider+" "+sub]...)
	}
	return found, nil
}

func (p people) ByEmail(_ context.Context, email string) ([]string, error) {
	if p == nil {
		return nil, errAway
	}
	return p[strings.ToLower(email)], nil
}

// everybody has linked an account at the provider but bob, who has the same sub
// elsewhere.
var everybody = people{"keycloak s-ada": {"ada"}, "google s-ada": {"bob"}, "ada@example.com": {"ada"}, "bob@other.example": {"bob"}}

// site is where signals end sessions.
type site struct {
	users    people
	sessions *revocation.List
	files    *brokenStorage
}

// brokenStorage refuses to store anything while it is full.
type brokenStorage struct {
	certmagic.Storage
	full atomic.Bool
}

func (b *brokenStorage) Store(ctx context.Context, key string, value []byte) error {
	if b.full.Load() {
		return errors.New("no space left on device")
	}
	return b.Storage.Store(ctx, key, value)
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{users: everybody, files: &brokenStorage{Storage: &certmagic.FileStorage{Path: t.TempDir()}}}
	s.sessions = revocation.Open(revocation.Config{Local: revocation.NewStorage(s.files, "users", 0), Logger: zap.NewNop})
	t.Cleanup(func() { _ = s.sessions.Close() })
	return s
}

// acquire implements Acquire.
func (s *site) acquire() (Target, func()) {
	exists := func(_ context.Context, id string) (bool, error) {
		if s.users == nil {
			return false, errAway
		}
		return id == "ada" || id == "bob", nil
	}
	return Target{Users: s.users, Exists: exists, Sessions: s.sessions}, func() {}
}

// revoked returns what was revoked.
func (s *site) revoked() []revocation.Revocation {
	return revocation.AllOf([]*revocation.List{s.sessions})
}

// ended describes what has ended.
func (s *site) ended() string {
	var all []string
	for _, r := range s.revoked() {
		switch {
		case r.Blocked:
			all = append(all, "blocked "+r.Subject)
		case r.Session != "":
			all = append(all, "session "+r.Session)
		default:
			all = append(all, "user "+r.Subject)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
