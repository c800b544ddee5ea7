package answer

import (
	"iter"
	"net/http"
	"slices"
	"strings"
)

// Ended is a session that ends.
type Ended struct {
	// Names are the names of its cookies, which are to be cleared.
	Names []string
	// Marks identify its tokens, for noticing that the browser still has them.
	Marks []string
	// Beside are the names of its cookies that the browser has once more, with a
	// live session, which the mark Live identifies. They are cleared if it is known
	// where the browser keeps the live one, anywhere else.
	Beside []string
	Live   string
	// Marker is the marker of its request, read for these marks.
	Marker Marker
}

// The marker is a cookie that tells which sessions a browser was told to delete
// within the last minute. If it sends one of them all the same, the deletion did not
// take: the cookie has another Domain or Path. To send its owner away once more
// would be a loop.
const (
	markerName    = "stale-session-ended"
	markerSeconds = 60
	markSeparator = "."
	maxMarks      = 8
)

// Marker is the marker of a request.
type Marker struct {
	value   string // empty for none
	returns bool
}

// ReadMarker reads the marker of a request, and looks for the marks of a session in it.
func ReadMarker(r *http.Request, marks []string) Marker {
	if len(marks) == 0 {
		return Marker{}
	}
	m := Marker{value: markerOf(r)}
	m.returns = m.value != "" && !slices.ContainsFunc(marks, func(mark string) bool { return !m.has(mark) })
	return m
}

// Returns reports whether a browser still sends all of a session that it was just
// told to delete.
func (m Marker) Returns() bool { return m.returns }

// markerOf returns the value of the marker that a request has.
func markerOf(r *http.Request) string {
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if value, found := strings.CutPrefix(strings.Trim(pair, " \t"), markerName+"="); found {
				return value
			}
		}
	}
	return ""
}

// has reports whether a marker has a mark.
func (m Marker) has(mark string) bool {
	for known := range m.marks() {
		if known == mark {
			return true
		}
	}
	return false
}

// marks are the first marks in a marker, which anybody can make longer.
func (m Marker) marks() iter.Seq[string] {
	return func(yield func(string) bool) {
		n := 0
		for known := range strings.SplitSeq(m.value, markSeparator) {
			if n++; n > maxMarks || !yield(known) {
				return
			}
		}
	}
}

// mark adds the marker to a response, with what it held before.
func (e Ended) mark(h http.Header, https bool) {
	all := slices.Clip(e.Marks)
	for known := range e.Marker.marks() {
		if len(known) == markLength && !slices.Contains(all, known) && isMark(known) {
			all = append(all, known)
		}
	}
	marker := http.Cookie{
		Name: markerName, Value: strings.Join(all[:min(len(all), maxMarks)], markSeparator),
		Path: "/", MaxAge: markerSeconds, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: https,
	}
	h.Add("Set-Cookie", marker.String())
}

// markLength is the length of session.Token.Mark.
const markLength = 12

// isMark reports whether a text has the characters of a mark.
func isMark(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	})
}
