// Package cookie is what the formats of several libraries share that keep a session in
// a cookie: their options, and how they read cookies and chunks.
package cookie

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
)

// Options are the options of a library.
type Options struct {
	// The secrets of the app; more than one while one is being rotated. Use
	// placeholders. Default: from the environment variables of the library.
	Secrets []string `json:"secrets,omitempty"`

	// The names of the session cookies, without the numbers of chunks. Default:
	// those of the library.
	Cookies []string `json:"cookies,omitempty"`

	// The path of the user id in the session, such as `user.id`. Default: as the
	// library's own examples have it; somebody must have been found by it before
	// it ends a session.
	Subject string `json:"subject,omitempty"`
}

// Caddyfile returns the options of a Caddyfile.
func (o *Options) Caddyfile() directive.Options {
	return directive.Options{
		"secret":  directive.Texts(&o.Secrets),
		"cookie":  directive.Texts(&o.Cookies),
		"subject": directive.Text(&o.Subject),
	}
}

// Keys returns the secrets, with their placeholders filled, or else the values of the
// environment variables that are set and usable. Without any the error wraps
// formats.ErrNoKey.
func (o *Options) Keys(env formats.Environment, usable func(secret string) bool, variables ...string) ([]string, error) {
	if len(o.Secrets) > 0 {
		return fill(env, "secret", o.Secrets)
	}
	var keys []string
	for _, name := range variables {
		if value := env.Variable(name); value != "" && usable(value) && !slices.Contains(keys, value) {
			keys = append(keys, value)
		}
	}
	if len(keys) == 0 {
		return nil, NoKey(variables...)
	}
	return keys, nil
}

// NoKey returns the error that there is no secret in any of some environment variables.
func NoKey(variables ...string) error {
	return fmt.Errorf("%w: set %s in Caddy's environment to the app's secret, or add `secret`", formats.ErrNoKey, strings.Join(variables, " or "))
}

// Names returns the names of the session cookies, with their placeholders filled, or the
// default ones.
func (o *Options) Names(env formats.Environment, defaults ...string) ([]string, error) {
	if len(o.Cookies) == 0 {
		return defaults, nil
	}
	return fill(env, "cookie", o.Cookies)
}

func fill(env formats.Environment, option string, texts []string) ([]string, error) {
	filled := make([]string, len(texts))
	for i, text := range texts {
		var err error
		if filled[i], err = env.Fill(option, text); err != nil {
			return nil, err
		}
		if filled[i] == "" {
			return nil, errors.New(option + ": empty value")
		}
	}
	return filled, nil
}

// Session returns the session of claims that end at a time, unless that is zero, and
// that are from a text, which is given as formats.Session.Canonical. The
// user id is at the configured path, or else at one of some others: a guess. The error
// is formats.ErrExpired or formats.ErrNobody.
func (o *Options) Session(claims map[string]any, canonical string, expires, now time.Time, guesses ...string) (formats.Session, error) {
	if !expires.IsZero() && !now.Before(expires) {
		return formats.Session{}, formats.ErrExpired
	}
	s := formats.Session{Claims: claims, ExpiresAt: expires, Canonical: canonical, Guessed: o.Subject == ""}
	if !s.Guessed {
		guesses = []string{o.Subject}
	}
	if s.Subject = formats.Subject(claims, guesses...); s.Subject == "" {
		return formats.Session{}, formats.ErrNobody
	}
	return s, nil
}
