// Package directive parses and validates the options of a Caddyfile directive,
// with the same errors everywhere.
package directive

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-4adef13c/caddy-stale-session/internal/location"
)

// Option parses what follows the name of an option.
type Option func(d *caddyfile.Dispenser) error

// Options are the options of a block, by name.
type Options map[string]Option

// Block parses the block that follows the name of a directive or option, if there
// is one; arguments before it are an error. An option can be set once, those
// named in repeat several times.
func Block(d *caddyfile.Dispenser, name string, options Options, repeat ...string) error {
	if d.NextArg() {
		if !location.Plain(d.Val(), "-_./") { // an address, perhaps, with a password
			return d.Errf("wrong argument count: %s takes a block", name)
		}
		return d.ArgErr()
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		parse, known := options[option]
		switch {
		case !known:
			return d.Errf("unrecognized option %q of %s", option, name)
		case seen[option] && !slices.Contains(repeat, option):
			return d.Errf("duplicate option %q", option)
		}
		seen[option] = true
		if err := parse(d); err != nil {
			return err
		}
	}
	return nil
}

// Nested parses an option with a block of its own.
func Nested[T any, P interface {
	*T
	caddyfile.Unmarshaler
}](into *P) Option {
	return func(d *caddyfile.Dispenser) error {
		*into = new(T)
		return (*into).UnmarshalCaddyfile(d)
	}
}

// Several is Nested for an option that may repeat.
func Several[T any, P interface {
	*T
	caddyfile.Unmarshaler
}](into *[]T) Option {
	return func(d *caddyfile.Dispenser) error {
		var one P
		if err := Nested(&one)(d); err != nil {
			return err
		}
		*into = append(*into, *one)
		return nil
	}
}

// Flag parses an option without arguments, which sets a bool to true.
func Flag(into *bool) Option {
	return func(d *caddyfile.Dispenser) error {
		if d.NextArg() {
			return d.ArgErr()
		}
		*into = true
		return nil
	}
}

// Text parses an option with one argument, which must not be empty.
func Text(into *string) Option {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		if d.CountRemainingArgs() > 1 { // which may be an address or a secret in pieces
			return d.Errf("wrong argument count: %s takes one; put quotes around a value that contains spaces", option)
		}
		if !d.AllArgs(into) {
			return d.ArgErr()
		}
		if *into == "" {
			return d.Errf("option %q has an empty value", option)
		}
		return nil
	}
}

// Texts parses an option with one or more arguments, none of them empty.
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

// Pairs parses an option whose arguments are a key and a value; it may repeat.
func Pairs(into *map[string]string) Option {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		var key, value string
		if !d.AllArgs(&key, &value) {
			return d.ArgErr()
		}
		if _, duplicate := (*into)[key]; duplicate {
			return d.Errf("duplicate %s of %q", option, key)
		}
		if *into == nil {
			*into = make(map[string]string)
		}
		(*into)[key] = value
		return nil
	}
}

// Duration parses an option whose argument is a positive duration.
func Duration(into *caddy.Duration) Option {
	return func(d *caddyfile.Dispenser) error {
		var value string
		if err := Text(&value)(d); err != nil {
			return err
		}
		parsed, err := caddy.ParseDuration(value)
		if err != nil || parsed <= 0 {
			return d.Errf("%q is not a positive duration, such as 500ms", value)
		}
		*into = caddy.Duration(parsed)
		return nil
	}
}

// OneOf returns an error unless the value of an option is empty or one of the
// words.
func OneOf(option, value string, words ...string) error {
	if value == "" || slices.Contains(words, value) {
		return nil
	}
	return fmt.Errorf("%s is %q; it must be one of %s", option, value, strings.Join(words, ", "))
}
