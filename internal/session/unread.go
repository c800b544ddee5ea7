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
// reading of, because they have the form of another.
func (rd *Reader) noticeParts(format int, p *sources, all []formats.Reading, s *Session) {
	for i, c := range p.cookies {
		reads := func(r formats.Reading) bool { return slices.Contains(r.Parts, i) }
		if c.owners == authJS<<(format+1) && !slices.ContainsFunc(all, reads) {
			rd.notice(c.name, c.value, s)
		}
	}
}
