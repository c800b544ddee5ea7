package cookie

import (
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

// Chunks say how a library names the chunks of a cookie: its name, Separator and a
// number, from First on.
type Chunks struct {
	Separator string
	First     int
	// Count is how many it reads, at most.
	Count int
}

// Readings returns what a cookie with a name says: each value of it, and what its
// chunks say together.
func (c Chunks) Readings(parts []formats.Part, name string) []formats.Reading {
	whole := slices.DeleteFunc(formats.Values(parts, name), func(r formats.Reading) bool { return r.Text == "" })
	return append(whole, c.Joined(parts, name)...)
}

// Joined returns what the chunks of a cookie with a name say together. One without a
// value is none to the libraries.
func (c Chunks) Joined(parts []formats.Part, name string) []formats.Reading {
	chunks := slices.Clone(parts)
	for i := range chunks {
		if p := &chunks[i]; p.Value == "" || !c.has(p.Name, name) {
			p.Name = ""
		}
	}
	return formats.Joined(chunks, name, c.Separator, true)
}

// has reports whether a name is that of a chunk that the library reads.
func (c Chunks) has(name, base string) bool {
	number, ok := formats.ChunkNumber(name, base, c.Separator)
	return ok && c.First <= number && number-c.First < c.Count
}

// IsNamed reports whether a cookie has one of the names, or is a chunk of one that has.
// It does not allocate.
func (c Chunks) IsNamed(cookie string, names []string) bool {
	for _, name := range names {
		if cookie == name || formats.IsChunk(cookie, name, c.Separator) {
			return true
		}
	}
	return false
}
