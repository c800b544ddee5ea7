package provision

import (
	"crypto"
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

// Readers returns the readers in use.
func Readers() []*session.Reader { return readers.All() }

// Tokens are the options of what reads the session cookies, as they are
// written: with placeholders.
type Tokens struct {
	Cookies, Secrets  []string
	KeyFile, JWKS     string
	Issuer, Audience  string
	Subject, IssuedAt string
	Match             []string // claims to compare
	Accounts          int      // how many are cached, as many as tokens; 0 for the default
}

// Reader takes what reads the session cookies.
func (h *Held) Reader(env environment.Environment, options Tokens) (*session.Reader, error) {
	config := session.Config{
		Subject: options.Subject, IssuedAt: options.IssuedAt, Match: options.Match,
		CacheBytes: options.Accounts * session.TokenBytes,
	}
	var err error
	if config.CookieNames, err = env.FillAll("cookies", options.Cookies); err != nil {
		return nil, err
	}
	if config.Secrets, err = env.FillAll("secrets", options.Secrets); err != nil {
		return nil, err
	}
	if len(config.Secrets) == 0 && options.KeyFile == "" && options.JWKS == "" {
		if config.Secrets, err = env.Secrets(); err != nil {
			return nil, err
		}
	}
	if config.Issuer, err = env.Fill("issuer", options.Issuer); err != nil {
		return nil, err
	}
	if config.Audience, err = env.Fill("audience", options.Audience); err != nil {
		return nil, err
	}
	distinct := struct {
		session.Config
		Keys []byte
		JWKS string
	}{Config: config}
	if options.KeyFile != "" {
		if distinct.Keys, config.PublicKeys, err = readKeys(env, options.KeyFile); err != nil {
			return nil, fmt.Errorf("key_file: %w", err)
		}
	}
	if options.JWKS != "" {
		location, err := env.Fill("jwks", options.JWKS)
		if err != nil {
			return nil, err
		}
		if config.JWKS, err = h.keySet(location); err != nil {
			return nil, err
		}
		distinct.JWKS = fmt.Sprintf("%p", config.JWKS) // and not only where: the file there may have changed
	}
	return take(h, readers, distinct, func() (*session.Reader, func() error, error) {
		reader, err := session.New(config)
		return reader, func() error { reader.Close(); return nil }, err
	})
}

// readKeys reads the public keys of a PEM file.
func readKeys(env environment.Environment, file string) ([]byte, []crypto.PublicKey, error) {
	path, err := env.Fill("path", file)
	if err != nil {
		return nil, nil, err
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	keys, err := jose.ParsePublicKeys(pem)
	return pem, keys, err
}

// keySet takes the key set of a JWKS. That of a file is another one once the file
// has changed.
func (h *Held) keySet(location string) (*jose.JWKS, error) {
	distinct := []string{location}
	if text, err := os.ReadFile(location); err == nil {
		distinct = append(distinct, string(text))
	}
	keys, err := take(h, keySets, distinct, func() (*jose.JWKS, func() error, error) {
		keys, err := jose.OpenJWKS(location, func(err error) {
			caddy.Log().Named("http.handlers.stale_session").Error("the JSON Web Key Set cannot be fetched", zap.Error(err))
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
