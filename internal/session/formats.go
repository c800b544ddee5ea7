package session

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

// format is one of Config.Formats.
type format struct {
	formats.Format
	keyed   formats.Keyed // nil if its keys never change
	domain  string        // in the cache
	headers []string      // in canonical form
}

// newFormats returns the formats, and the names of the fields of requests in which
// sessions are looked for.
func newFormats(all []formats.Format) (opened []format, fields []string) {
	fields = []string{"Cookie", "Authorization"}
	for i, f := range all {
		keyed, _ := f.(formats.Keyed)
		of := format{f, keyed, "=" + strconv.Itoa(i), nil} // no cookie has such a name
		for _, name := range f.Headers() {
			name = http.CanonicalHeaderKey(name)
			if of.headers = append(of.headers, name); !slices.Contains(fields, name) {
				fields = append(fields, name)
			}
		}
		opened = append(opened, of)
	}
	return opened, fields
}

// readFormats appends to s the sessions that the formats read from its cookies and
// from the fields of a header.
func (rd *Reader) readFormats(header http.Header, s *Session) {
	failure := s.Failure
	for i := range rd.formats {
		if s.TooLarge {
			return
		}
		if all := rd.sourcesOf(i, header, s); all != nil && !s.TooLarge {
			failure = moreImportant(failure, rd.readFormat(i, all, s))
		}
	}
	if s.TooLarge {
		return
	}
	if s.Failure = failure; len(s.Tokens) > 0 {
		s.Failure = ""
	}
}

// sources are the parts that a format gets, and where each is from: cookies first.
type sources struct {
	parts   []formats.Part
	cookies []cookie
	fields  []field
}

// sourcesOf returns what a format may read a session from: all cookies, and then, if
// they disagree, what other parsers make of them.
func (rd *Reader) sourcesOf(format int, header http.Header, s *Session) []sources {
	var cookies []cookie
	for _, c := range s.jar {
		if c.has(format) {
			cookies = append(cookies, c)
		}
	}
	if len(cookies) > maxCookies {
		s.setTooLarge()
	}
	fields := rd.fieldsOf(format, header, s)
	if len(cookies)+len(fields) == 0 || s.TooLarge {
		return nil
	}
	all := []sources{newSources(cookies, fields)}
	if slices.ContainsFunc(cookies, cookie.isDisputed) {
		named := slices.DeleteFunc(slices.Clone(cookies), cookie.isNameOnly)
		for _, jar := range [...][]cookie{parseCookie7(named, ""), parseCookie1(named), parseNext(named, "")} {
			all = append(all, newSources(jar, fields))
		}
	}
	return all
}

// fieldsOf returns the fields of a header in which a format looks for a session.
func (rd *Reader) fieldsOf(format int, header http.Header, s *Session) (fields []field) {
	for _, name := range rd.formats[format].headers {
		lines := header[name]
		if len(lines) > maxBearers {
			s.setTooLarge()
		}
		for _, line := range lines {
			if len(line) > rd.config.MaxTokenBytes {
				s.setTooLarge()
			}
			fields = append(fields, field{name, line})
		}
	}
	return fields
}

func newSources(cookies []cookie, fields []field) sources {
	parts := make([]formats.Part, 0, len(cookies)+len(fields))
	for _, c := range cookies {
		parts = append(parts, formats.Part{Name: c.name, Value: c.value})
	}
	for _, f := range fields {
		parts = append(parts, formats.Part{Header: f.name, Value: f.value})
	}
	return sources{parts, cookies, fields}
}

// at returns the cookies and fields with some indices.
func (p *sources) at(indices []int) (cookies []cookie, fields []field) {
	for _, i := range indices {
		switch {
		case i >= 0 && i < len(p.cookies):
			cookies = append(cookies, p.cookies[i])
		case i >= len(p.cookies) && i < len(p.parts):
			fields = append(fields, p.fields[i-len(p.cookies)])
		}
	}
	return cookies, fields
}

// readFormat appends to s the sessions that a format reads. It returns why one in a
// cookie is not valid.
func (rd *Reader) readFormat(format int, all []sources, s *Session) (failure Failure) {
	if s.Tokens == nil {
		s.Tokens = s.tokens[:0]
	}
	var read []reading
	for i := range all {
		readings := rd.formats[format].Readings(all[i].parts)
		if len(read)+len(readings) > maxReadings {
			s.setTooLarge()
			return TooLarge
		}
		if i == 0 {
			rd.noticeParts(format, &all[i], readings, s)
		}
		for k := range readings {
			r := &readings[k]
			token := Token{text: r.Text, format: format + 1}
			token.from, token.fields = all[i].at(r.Parts)
			again := reading{r.Text, token.from}
			at := slices.IndexFunc(read, func(before reading) bool { return before.text == r.Text })
			if read = append(read, again); at >= 0 {
				s.repeat(read[at], again)
				continue
			}
			failed := rd.decodeFormat(format, r.Text, s, &token.Claims)
			if s.TooLarge {
				return TooLarge
			}
			if failed != "" {
				if len(token.from) > 0 && failed != nobody {
					failure = moreImportant(failure, failed)
				}
				continue
			}
			if token.Claims.Doubtful && r.Doubtful != nil {
				token.from, token.fields = all[i].at(r.Doubtful)
			}
			if len(token.from) > 0 {
				token.Names = s.namesOf(token.from)
			}
			s.Tokens = append(s.Tokens, token)
		}
	}
	return failure
}

// decodeFormat decodes a text of a format into c, unless its claims are cached.
func (rd *Reader) decodeFormat(format int, text string, s *Session, c *Claims) Failure {
	f := &rd.formats[format]
	key := rd.cache.digest(f.domain, text)
	if rd.known(key, s, c) { // one that has expired may be one that the app asks for now
		return ""
	}
	var generation uint64
	if f.keyed != nil {
		generation = f.keyed.Generation() // before it is verified by keys that may be newer
	}
	switch failure := rd.failures.get(key, generation, s.At); failure {
	case "":
	case appAsks:
		*c = Claims{AppAsks: true, ReadAt: s.At, SeenAt: s.At}
		return ""
	default:
		return failure
	}
	if s.tried++; s.tried > maxTokens {
		s.setTooLarge()
	}
	if s.TooLarge || !s.maySign(1) {
		return TooLarge
	}
	decoded, err := f.Decode(text, s.At)
	switch {
	case errors.Is(err, formats.ErrKeysUnavailable):
		return KeysUnavailable
	case errors.Is(err, formats.ErrExpired):
		rd.failures.put(key, generation, s.At, s.At.Add(-time.Minute))
		return Expired
	case errors.Is(err, formats.ErrNobody):
		rd.failures.set(key, generation, s.At, nobodyTime)
		return nobody
	case err != nil:
		rd.failures.put(key, generation, s.At, time.Time{})
		return Undecodable
	}
	if decoded.AppAsks {
		if decoded.ID == "" {
			rd.failures.putAppAsks(key, generation, s.At)
		}
		*c = Claims{AppAsks: true, SessionID: []byte(decoded.ID), ReadAt: s.At, SeenAt: s.At}
		return ""
	}
	claims := rd.claimsOf(&decoded)
	if decoded.Doubtful { // anybody can put one session beside many others
		claims.ReadAt, claims.SeenAt, claims.Made, claims.First = s.At, s.At, s.made, true
		*c = claims
		return ""
	}
	if decoded.Canonical != "" && decoded.Canonical != text {
		if key = rd.cache.digest(f.domain, decoded.Canonical); rd.known(key, s, c) {
			return ""
		}
	}
	rd.learn(key, s, &claims, c)
	return ""
}

// claimsOf returns the claims that a verdict needs.
func (rd *Reader) claimsOf(decoded *formats.Session) Claims {
	c := Claims{
		Subject: []byte(decoded.Subject), SessionID: []byte(decoded.ID), MintedAt: decoded.MadeAt, IssuedAt: decoded.MadeAt,
		ExpiresAt: decoded.ExpiresAt, Doubtful: decoded.Doubtful, Guessed: decoded.Guessed,
	}
	if !decoded.SignedInAt.IsZero() {
		c.IssuedAt, c.Lasting = decoded.SignedInAt, true
	}
	c.Match = rd.matched(decoded.Claims)
	return c
}

// UsersTable returns the table in which the only format that is read keeps its users;
// empty if there are others, or it keeps them in none of its own.
func (rd *Reader) UsersTable() string {
	if len(rd.formats) != 1 || len(rd.config.CookieNames) > 0 {
		return ""
	}
	home, ok := rd.formats[0].Format.(formats.Home)
	if !ok {
		return ""
	}
	return home.UsersTable()
}

// Stores returns where the libraries of formats keep their sessions: of each format, in
// the order of Config.Formats; the zero value if nowhere.
func (rd *Reader) Stores() []formats.Store {
	all := make([]formats.Store, len(rd.formats))
	for i := range rd.formats {
		if stored, ok := rd.formats[i].Format.(formats.Stored); ok {
			all[i] = stored.Store()
		}
	}
	return all
}

// isReadFrom reports whether a format may read a session from a field of a header.
func (rd *Reader) isReadFrom(name, line string) bool {
	for i := range rd.formats {
		format := &rd.formats[i]
		if slices.Contains(format.headers, name) && len(format.Readings([]formats.Part{{Header: name, Value: line}})) > 0 {
			return true
		}
	}
	return false
}
