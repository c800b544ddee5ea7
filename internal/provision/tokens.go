package provision

import (
	"context"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/shared"
)

var (
	readers = shared.NewPool[*session.Reader]()
	keySets = shared.NewPool[*jose.JWKS]()
)

// Readers returns the token readers in use.
func Readers() []*session.Reader { return readers.All() }

// Reader acquires a reader of sessions.
func (r *Resources) Reader(env environment.Environment, of Sessions) (*session.Reader, error) {
	config, formats, err := of.config(env, r.KeySet)
	if err != nil {
		return nil, err
	}
	distinct := struct {
		session.Config
		JWKS, Secrets string
		Formats       []string
	}{config, fmt.Sprintf("%p", config.JWKS), fmt.Sprintf("%q", config.Secrets), formats} // not the location: the file may have changed; secrets may be no text
	return acquire(r, readers, distinct, func() (*session.Reader, func() error, error) {
		reader, err := session.New(config)
		return reader, func() error { reader.Close(); return nil }, err
	})
}

// QuietReader returns a reader for a command: it has fetched its keys, logs nothing, and
// is shared with nobody.
func QuietReader(env environment.Environment, of Sessions) (*session.Reader, error) {
	config, _, err := of.config(env, func(location string) (*jose.JWKS, error) {
		keys, err := jose.FetchJWKS(context.Background(), location)
		if err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
		return keys, nil
	})
	if err != nil {
		return nil, err
	}
	return session.New(config)
}

// UsersTable returns the table in which the library whose sessions are read keeps its
// users, without fetching keys: see session.Reader.UsersTable.
func UsersTable(env environment.Environment, of Sessions) string {
	config, _, err := of.config(env, jose.LazyJWKS)
	if err != nil { // whoever needs the reader hears of it
		return ""
	}
	reader, err := session.New(config)
	if err != nil {
		return ""
	}
	defer reader.Close()
	return reader.UsersTable()
}

// KeySet acquires the JSON Web Key Set at a URL or in a file. A changed file is
// another key set.
func (r *Resources) KeySet(location string) (*jose.JWKS, error) {
	distinct := []string{location}
	if text, err := os.ReadFile(location); err == nil {
		distinct = append(distinct, string(text))
	}
	return r.keySet(distinct, func(failed func(error)) (*jose.JWKS, error) { return jose.OpenJWKS(location, failed) })
}

// DiscoverKeySet acquires the JSON Web Key Set that the metadata of an issuer name, at a
// URL.
func (r *Resources) DiscoverKeySet(metadata, issuer string) (*jose.JWKS, error) {
	return r.keySet([]string{metadata, issuer}, func(failed func(error)) (*jose.JWKS, error) { return jose.DiscoverJWKS(metadata, issuer, failed) })
}

func (r *Resources) keySet(distinct []string, open func(failed func(error)) (*jose.JWKS, error)) (*jose.JWKS, error) {
	keys, err := acquire(r, keySets, distinct, func() (*jose.JWKS, func() error, error) {
		keys, err := open(func(err error) {
			caddy.Log().Named("http.handlers.stale_session").Error("cannot fetch the JSON Web Key Set", zap.Error(err))
		})
		if err != nil {
			return nil, nil, err
		}
		return keys, keys.Close, nil
	})
	if err != nil {
		return nil, fmt.Errorf("jwks: %w", err)
	}
	return keys, nil
}
