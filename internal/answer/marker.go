package answer

import (
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

// Returns reports whether a browser still sends all of a session that it was just
// told to delete.
func (a *Responder) Returns(r *http.Request, marks []string) bool {
	if len(marks) == 0 {
		return false
	}
	known := marksOf(r)
	return !slices.ContainsFunc(marks, func(mark string) bool { return !slices.Contains(known, mark) })
}

// marksOf returns the marks that a request has in its marker.
func marksOf(r *http.Request) []string {
	marker, err := r.Cookie(markerName)
	if err != nil {
		return nil
	}
	return strings.SplitN(marker.Value, markSeparator, maxMarks+1)
}

// mark adds the marker to a response, with what it held before.
func mark(h http.Header, r *http.Request, marks []string, https bool) {
	all := slices.Clone(marks)
	for _, known := range marksOf(r) {
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
