package stalesession

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/command"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// describe returns what the commands need of a handler.
func describe(text []byte) (site command.Site, err error) {
	h := new(Handler)
	if err := json.Unmarshal(text, h); err != nil {
		return site, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := h.loadDirectory(ctx); err != nil {
		return site, err
	}
	signIn := h.SignIn
	if signIn == "" && len(h.AuthPaths) > 0 {
		signIn = strings.TrimRight(h.AuthPaths[0], "/") + "/signin"
	}
	return command.Site{
		Directory: h.directory, Unwatched: h.Poll == off, Timeout: time.Duration(h.Timeout), Revocations: h.Revocations, SignIn: signIn,
		Reader: h.quietReader,
	}, nil
}

// quietReader returns the handler's token reader for a command: it has fetched its
// keys, and logs nothing.
func (h *Handler) quietReader() (*session.Reader, error) {
	config, err := h.TokenOptions.Config(environment.New(), func(location string) (*jose.JWKS, error) {
		keys, err := jose.FetchJWKS(context.Background(), location)
		if err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
		return keys, nil
	})
	if err != nil {
		return nil, err
	}
	config.Match = h.directory.MatchedClaims()
	return session.New(config)
}
