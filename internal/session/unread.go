package session

import (
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/unread"
)

// Unread returns what looks like a session and was read by nothing so far.
func (rd *Reader) Unread() []unread.Found { return rd.unread.All() }

// maxNoticed bounds the cookies of a request that are looked at although nothing reads
// them.
const maxNoticed = 256

// notice notices a cookie that nothing reads, if it looks like a session.
func (rd *Reader) notice(name, value string, s *Session) {
	if s.noticed++; s.noticed > maxNoticed {
		return
	}
	if found, first := rd.unread.Notice(name, trim(value)); first {
		s.Unread = append(s.Unread, found)
	}
}

// noticeBearers notices tokens in Authorization fields that nothing reads.
func (rd *Reader) noticeBearers(lines []string, s *Session) {
	for _, line := range lines {
		holds := func(t Token) bool { return slices.Contains(t.fields, field{"Authorization", line}) }
		if token := formats.Bearer(line); token != "" && !slices.ContainsFunc(s.Tokens, holds) {
			rd.notice(unread.Bearer, token, s)
		}
	}
}

// noticeParts notices cookies that a format owns by their name, and that it has no
// reading of, because they have the form of another. In a request they are none of the
// session cookies then.
func (rd *Reader) noticeParts(format int, p *sources, all []formats.Reading, s *Session) {
	reads := func(i int) bool {
		return slices.ContainsFunc(all, func(r formats.Reading) bool { return slices.Contains(r.Parts, i) })
	}
	for i, c := range p.cookies {
		if c.owners != authJS<<(format+1) || reads(i) {
			continue
		}
		rd.notice(c.name, c.value, s)
		named := func(other cookie) bool { return trim(other.name) == trim(c.name) }
		if k := slices.IndexFunc(p.cookies, named); k == i && !s.made && !slices.ContainsFunc(p.cookies[i+1:], named) {
			s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(name string) bool { return name == trim(c.name) }) // tokens share it
		}
	}
}
