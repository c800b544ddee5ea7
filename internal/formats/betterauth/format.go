package betterauth

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// format reads the sessions of Better Auth. The cookie session_token names a row of
// the table `session`, which the app looks up, with its user, unless the cookie
// session_data holds both already: its cache.
type format struct {
	names     []names
	secrets   [][]byte // that sign
	decrypter *jose.Decrypter
	verifier  formats.Verifier
	subject   string
	sessions  string // the table
	redis     string // the address, if sessions are in Redis
	key       string // of a session there
}

// names are the names of the two cookies.
type names struct{ token, data string }

// Owns implements formats.Format.
func (f *format) Owns(name, _ string) bool {
	for i := range f.names {
		n := &f.names[i]
		if name == n.token || strings.HasPrefix(name, n.data) && (len(name) == len(n.data) || isChunk(name, n.data)) {
			return true
		}
	}
	return false
}

// Headers implements formats.Format.
func (*format) Headers() []string { return []string{"Authorization"} }

// Store implements formats.Stored.
func (f *format) Store() formats.Store {
	switch {
	case f.redis != "":
		return formats.Store{Redis: f.redis, Key: f.key, User: []string{"user.id"}, Created: []string{"session.createdAt"}}
	case f.sessions == "off":
		return formats.Store{}
	}
	return formats.Store{
		Table: f.sessions, ID: "token", User: []string{"userId", "user_id"}, Created: []string{"createdAt", "created_at"}, Ends: []string{"expiresAt", "expires_at"},
	}
}

// Generation implements formats.Keyed.
func (f *format) Generation() uint64 { return f.verifier.Generation() }

// separator is between a session_token and a session_data in a text.
const separator = "\x00"

// Readings implements formats.Format. A session_token and a session_data are read
// together, because the cache counts only beside a token.
func (f *format) Readings(parts []formats.Part) (all []formats.Reading) {
	bearers := f.bearers(parts)
	cached := false
	for _, n := range f.names {
		tokens := ends(formats.Values(parts, n.token))
		whole := formats.Values(parts, n.data)
		caches := ends(whole)
		if len(whole) == 0 || slices.ContainsFunc(whole, func(r formats.Reading) bool { return r.Text == "" }) {
			caches = append(caches, joined(parts, n.data)...)
		}
		if len(caches) == 0 {
			all = append(all, tokens...)
			continue
		}
		cached = true
		if tokens = append(tokens, bearers...); len(tokens) == 0 {
			tokens = []formats.Reading{{}}
		}
		for _, token := range tokens {
			for _, cache := range caches {
				all = append(all, formats.Reading{
					Text: token.Text + separator + cache.Text, Parts: slices.Concat(token.Parts, cache.Parts), Doubtful: cache.Parts,
				})
			}
		}
	}
	if !cached {
		all = append(all, bearers...)
	}
	return all
}

// ends returns the first and the last of some values that are not empty. Better Auth
// reads the first.
func ends(values []formats.Reading) []formats.Reading {
	values = slices.DeleteFunc(slices.Clone(values), func(r formats.Reading) bool { return r.Text == "" })
	if len(values) > 2 {
		values = []formats.Reading{values[0], values[len(values)-1]}
	}
	return values
}

// bearers returns the signed tokens in Authorization fields, as the plugin bearer
// reads them.
func (f *format) bearers(parts []formats.Part) (all []formats.Reading) {
	for i, p := range parts {
		if p.Header == "" {
			continue
		}
		token := formats.Bearer(p.Value)
		if decoded, err := url.PathUnescape(token); err == nil {
			token = decoded
		}
		if _, _, ok := splitToken(token); ok {
			all = append(all, formats.Reading{Text: token, Parts: []int{i}})
		}
	}
	return ends(all)
}

// isChunk reports whether some release takes a name for that of a chunk.
func isChunk(name, base string) bool {
	_, ok := chunkNumber(name, base)
	return ok
}

// chunkNumber returns the number of a chunk, as getCookieCache reads it: parseInt of
// what follows the last dot.
func chunkNumber(name, base string) (number int, ok bool) {
	rest, ok := strings.CutPrefix(name, base)
	if !ok || rest == "" || rest[0] != '.' {
		return 0, false
	}
	last := strings.TrimLeft(rest[strings.LastIndexByte(rest, '.')+1:], "+")
	if last == "" { // parseInt("0"), as the empty text is replaced
		return 0, true
	}
	end := 0
	for end < len(last) && '0' <= last[end] && last[end] <= '9' {
		end++
	}
	number, err := strconv.Atoi(last[:min(end, 9)])
	return number, err == nil
}

// joined returns what the chunks of a cookie say together. Releases differ in which
// names are those of chunks.
func joined(parts []formats.Part, base string) []formats.Reading {
	all := formats.Joined(parts, base, ".", false)
	var chunks []int
	for i, p := range parts {
		if p.Header == "" && isChunk(p.Name, base) && !formats.IsChunk(p.Name, base, ".") {
			chunks = append(chunks, i)
		}
	}
	if len(chunks) == 0 {
		return all
	}
	for i, p := range parts {
		if p.Header == "" && formats.IsChunk(p.Name, base, ".") {
			chunks = append(chunks, i)
		}
	}
	slices.Sort(chunks)
	number := func(i int) int { n, _ := chunkNumber(parts[i].Name, base); return n }
	slices.SortStableFunc(chunks, func(a, b int) int { return cmp.Compare(number(a), number(b)) })
	var text strings.Builder
	for _, i := range chunks {
		text.WriteString(parts[i].Value)
	}
	return append(all, formats.Reading{Text: text.String(), Parts: chunks})
}
