package provision

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// Sessions say which sessions a handler reads.
type Sessions struct {
	// Tokens say how those of NextAuth and Auth.js are read, and any JWT.
	Tokens session.TokenOptions
	// Formats are the modules that are configured: any of them, and session.AuthJS.
	// If there are none, all are used that there are keys for.
	Formats []caddy.Module
	// Match lists the claims that are compared with columns.
	Match []string
	// Cached is the number of decoded tokens to cache; 0 means the default.
	Cached int
}

// errNotAuthJS means that an option has no effect.
var errNotAuthJS = errors.New("`secret`, `key_file`, `jwks`, `issuer`, `audience`, `cookie`, `subject` and `issued_at` are for the format authjs, which is not among those configured: add `format authjs`, or set the options in the block of the other format")

// openKeySet opens a JSON Web Key Set.
type openKeySet func(location string) (*jose.JWKS, error)

// config returns the configuration of a reader, and what its formats depend on.
func (of *Sessions) config(env environment.Environment, keySet openKeySet) (config session.Config, distinct []string, err error) {
	modules, chosen := of.Formats, len(of.Formats) > 0
	if !chosen {
		for _, info := range caddy.GetModules(formats.Namespace) {
			modules = append(modules, info.New())
		}
	}
	authJS := false
	var opened []formats.Format
	for _, module := range modules {
		if _, is := module.(*session.AuthJS); is {
			authJS = true
			continue
		}
		format, on, err := open(env, keySet, module)
		if !chosen && errors.Is(err, formats.ErrNoKey) {
			continue
		}
		if err != nil {
			return config, nil, fmt.Errorf("format %s: %w", module.CaddyModule().ID.Name(), err)
		}
		opened, distinct = append(opened, format), append(distinct, on...)
	}
	switch {
	case authJS:
		config, err = of.Tokens.Config(env, keySet)
		if !chosen && len(opened) > 0 && !of.Tokens.AreSet() && errors.Is(err, environment.ErrNoSecret) {
			config, err = session.Config{}, nil // the app has another library
		}
	case of.Tokens.AreSet():
		err = errNotAuthJS
	}
	config.Formats, config.Match, config.CacheBytes = opened, of.Match, of.Cached*session.TokenBytes
	return config, distinct, err
}

// open opens a format, and returns what it depends on.
func open(env environment.Environment, keySet openKeySet, module caddy.Module) (format formats.Format, on []string, err error) {
	opener, ok := module.(formats.Module)
	if !ok {
		return nil, nil, fmt.Errorf("the module %T reads no sessions", module)
	}
	source := &recorder{env: env, keySet: keySet}
	if format, err = opener.OpenFormat(source); err != nil {
		return nil, nil, err
	}
	options, err := json.Marshal(module)
	return format, append(source.answers, string(module.CaddyModule().ID), string(options)), err
}

// recorder is the environment of a format. It records the answers.
type recorder struct {
	env     environment.Environment
	keySet  openKeySet
	answers []string
}

func (r *recorder) record(answer string) { r.answers = append(r.answers, answer) }

// Fill implements formats.Environment.
func (r *recorder) Fill(option, text string) (string, error) {
	filled, err := r.env.Fill(option, text)
	r.record(filled)
	return filled, err
}

// Variable implements formats.Environment.
func (r *recorder) Variable(name string) string {
	value := r.env.Optional("{env." + name + "}")
	r.record(value)
	return value
}

// Verifier implements formats.Environment.
func (r *recorder) Verifier(keys formats.Keys) (formats.Verifier, error) {
	config := jose.VerifierConfig{Secrets: keys.Secrets, Type: keys.Type}
	if keys.JWKS != "" {
		var err error
		if config.JWKS, err = r.keySet(keys.JWKS); err != nil {
			return nil, err
		}
	}
	r.record(fmt.Sprintf("%p", config.JWKS)) // not the location: the file may have changed
	verifier, err := jose.NewVerifier(config)
	return jwtVerifier{verifier}, err
}

// jwtVerifier has the errors of formats.
type jwtVerifier struct{ *jose.Verifier }

// Verify implements formats.Verifier.
func (v jwtVerifier) Verify(token string) (map[string]any, error) {
	claims, err := v.Verifier.Verify(token)
	switch {
	case errors.Is(err, jose.ErrKeysUnavailable):
		return nil, formats.ErrKeysUnavailable
	case err != nil:
		return nil, formats.ErrInvalid
	}
	return claims, nil
}
