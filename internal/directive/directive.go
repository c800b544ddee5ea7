// Package directive takes the parts of a Caddyfile directive, with the same
// errors everywhere.
package directive

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Option takes what follows the name of an option.
type Option func(d *caddyfile.Dispenser) error

// Options are those of a block, by their names.
type Options map[string]Option

// Block takes the rest of a line, which is empty, and the block that follows, if
// any. An option that stands there twice is an error, but for those that may
// repeat.
func Block(d *caddyfile.Dispenser, name string, options Options, repeat ...string) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		take, known := options[option]
		switch {
		case !known:
			return d.Errf("unrecognized option %q of %s", option, name)
		case seen[option] && !slices.Contains(repeat, option):
			return d.Errf("option %q stands here twice", option)
		}
		seen[option] = true
		if err := take(d); err != nil {
			return err
		}
	}
	return nil
}

// Nested takes an option that has a block of its own.
func Nested[T any, P interface {
	*T
	caddyfile.Unmarshaler
}](into *P) Option {
	return func(d *caddyfile.Dispenser) error {
		*into = new(T)
		return (*into).UnmarshalCaddyfile(d)
	}
}

// Flag takes an option that is true when it stands there.
func Flag(into *bool) Option {
	return func(d *caddyfile.Dispenser) error {
		if d.NextArg() {
			return d.ArgErr()
		}
		*into = true
		return nil
	}
}

// Text takes an option of one argument.
func Text(into *string) Option {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		if !d.AllArgs(into) {
			return d.ArgErr()
		}
		if *into == "" {
			return d.Errf("option %q has an empty value", option)
		}
		return nil
	}
}

// Texts takes an option of at least one argument.
func Texts(into *[]string) Option {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		*into = d.RemainingArgs()
		if len(*into) == 0 {
			return d.ArgErr()
		}
		if slices.Contains(*into, "") {
			return d.Errf("option %q has an empty value", option)
		}
		return nil
	}
}

// Duration takes an option that is a length of time above 0.
func Duration(into *caddy.Duration) Option {
	return func(d *caddyfile.Dispenser) error {
		var value string
		if err := Text(&value)(d); err != nil {
			return err
		}
		parsed, err := caddy.ParseDuration(value)
		if err != nil || parsed <= 0 {
			return d.Errf("%q is no length of time above 0, such as 500ms", value)
		}
		*into = caddy.Duration(parsed)
		return nil
	}
}

// OneOf returns an error unless the value of an option is empty or one of some
// words.
func OneOf(option, value string, words ...string) error {
	if value == "" || slices.Contains(words, value) {
		return nil
	}
	return fmt.Errorf("%s is %q; it must be one of %s", option, value, strings.Join(words, ", "))
}
