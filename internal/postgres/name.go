package postgres

import (
	"strings"
	"unicode"
)

// splitName splits the name of a table, as `users` has it, into its schema, if there
// is one, and its own name. Dots in double quotes are part of a name; "" there is a
// quote.
func splitName(name string) ([]string, error) {
	var parts []string
	for rest := name; ; {
		var part string
		if strings.HasPrefix(rest, `"`) {
			var closed bool
			if part, rest, closed = cutQuoted(rest[1:]); !closed {
				return nil, schemaError("the table name %s has an unterminated quote", name)
			}
		} else {
			end := strings.IndexAny(rest, `."`)
			if end < 0 {
				end = len(rest)
			}
			part, rest = rest[:end], rest[end:]
		}
		parts = append(parts, part)
		if part == "" || len(parts) > 2 || rest != "" && rest[0] != '.' {
			return nil, schemaError("%s is not a table name: write users, auth.users or \"my.schema\".\"User\"", name)
		}
		if rest == "" {
			return parts, nil
		}
		rest = rest[1:]
	}
}

// cutQuoted cuts a text after the quote that ends it.
func cutQuoted(text string) (before, after string, found bool) {
	var b strings.Builder
	for {
		part, rest, found := strings.Cut(text, `"`)
		b.WriteString(part)
		if !found || !strings.HasPrefix(rest, `"`) {
			return b.String(), rest, found
		}
		b.WriteByte('"')
		text = rest[1:]
	}
}

// joinName is the inverse of splitName.
func joinName(parts ...string) string {
	quoted := make([]string, len(parts))
	for i, part := range parts {
		if quoted[i] = part; strings.ContainsAny(part, `."`) {
			quoted[i] = `"` + strings.ReplaceAll(part, `"`, `""`) + `"`
		}
	}
	return strings.Join(quoted, ".")
}

// lines returns the lines of a Caddyfile that name relations.
func lines(relations ...relation) string {
	all := make([]string, len(relations))
	for i, r := range relations {
		all[i] = line("users", joinName(r.schema, r.name))
	}
	return strings.Join(all, ", ")
}

// line returns a line of a Caddyfile, as errors quote it.
func line(option, value string) string { return "`" + option + " " + token(value) + "`" }

// token returns a token of a Caddyfile. Where both kinds of quotes would be needed,
// no token has the value.
func token(value string) string {
	switch {
	case value != "" && !strings.ContainsAny(value, "\"`{}#<\\") && !strings.ContainsFunc(value, unicode.IsSpace):
		return value
	case strings.Contains(value, `\`) && !strings.Contains(value, "`"):
		return "`" + value + "`"
	}
	return `"` + strings.ReplaceAll(value, `"`, `\"`) + `"`
}
