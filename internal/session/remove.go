package session

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// Fields returns the fields of a header that hold sessions.
func (rd *Reader) Fields(header http.Header) http.Header {
	fields := make(http.Header)
	for _, name := range append(rd.RequestFields(), "Set-Cookie") {
		if lines := header[name]; lines != nil {
			fields[name] = lines
		}
	}
	return fields
}

// RequestFields returns the names of the fields that hold sessions in a request.
func (rd *Reader) RequestFields() []string { return slices.Clip(rd.fields) }

// Remove removes from a header of a request or a response what holds the tokens
// that ended reports by their index, and none of the other tokens. It leaves all
// other cookies byte for byte as they are.
func (rd *Reader) Remove(header http.Header, tokens []Token, ended func(i int) bool) {
	drop, keep := make(map[string]bool), make(map[string]bool)
	var fields []field
	for i := range tokens {
		pairs := drop
		if !ended(i) {
			pairs = keep
		} else {
			fields = append(fields, tokens[i].fields...)
		}
		for _, c := range tokens[i].from {
			pairs[c.pair] = true
		}
		if !ended(i) {
			for _, c := range tokens[i].also {
				keep[c.pair] = true
			}
		}
	}
	drops := func(pair string) bool { return drop[pair] && !keep[pair] }
	removePairs(header, drops)
	for _, name := range rd.fields[1:] {
		removeLines(header, name, func(line string) bool { return slices.Contains(fields, field{name, line}) })
	}
	removeLines(header, "Set-Cookie", func(line string) bool {
		pair, attributes, _ := strings.Cut(line, ";")
		return drops(pair) && !deletes(attributes, rd.config.Now())
	})
}

// Strip removes the session cookies from the header of a request, and each
// Authorization field whose token can be one of the app. It verifies none, and
// leaves other cookies byte for byte as they are.
func (rd *Reader) Strip(header http.Header) {
	removePairs(header, rd.holdsSession)
	removeLines(header, "Authorization", func(field string) bool { return anyBearer(field, rd.canDecode) })
	for _, name := range rd.fields[1:] {
		removeLines(header, name, func(line string) bool { return rd.isReadFrom(name, line) })
	}
}

// canDecode reports whether a text has the form of a token, and there is a key for
// what its header says.
func (rd *Reader) canDecode(text string) bool {
	switch strings.Count(text, ".") {
	case 2:
		_, err := rd.verifier.Parse(text)
		return err == nil || errors.Is(err, jose.ErrKeysUnavailable)
	case 4:
		return rd.decrypter.CanDecrypt(anyName, text)
	}
	return false
}

// StripSetCookies removes the Set-Cookie fields of a response that set a session
// cookie. It leaves those that delete one.
func (rd *Reader) StripSetCookies(header http.Header) {
	removeLines(header, "Set-Cookie", func(line string) bool {
		pair, attributes, _ := strings.Cut(line, ";")
		return rd.holdsSession(pair) && !deletes(attributes, rd.config.Now())
	})
}

// holdsSession reports whether some app may take a pair for a session cookie.
func (rd *Reader) holdsSession(pair string) bool {
	_, _, readers := rd.cut(pair)
	return readers != 0 || rd.isForeign(pair, false)
}

// removePairs removes pairs from the Cookie fields.
func removePairs(header http.Header, drops func(pair string) bool) {
	var lines []string
	for _, line := range header["Cookie"] {
		if kept := withoutPairs(line, drops); trim(strings.ReplaceAll(kept, ";", "")) != "" {
			lines = append(lines, kept)
		}
	}
	setField(header, "Cookie", lines)
}

// withoutPairs returns a Cookie field without some of its pairs.
func withoutPairs(line string, drops func(pair string) bool) string {
	var kept []string
	found := false
	for pair := range strings.SplitSeq(line, ";") {
		if drops(pair) {
			found = true
			continue
		}
		kept = append(kept, pair)
	}
	if !found {
		return line
	}
	return strings.TrimLeft(strings.Join(kept, ";"), " ")
}

// removeLines removes fields from a header. It does not change the slice, which
// others may hold.
func removeLines(header http.Header, field string, drops func(line string) bool) {
	setField(header, field, slices.DeleteFunc(slices.Clone(header[field]), drops))
}

// setField sets a header field, or deletes it if there are no lines.
func setField(header http.Header, field string, lines []string) {
	if len(lines) == 0 {
		delete(header, field)
		return
	}
	header[field] = lines
}
