package verdict

import (
	"net/http"
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// maxSeparations is how many times Separate reads what is left of a session.
const maxSeparations = 4

// Separate removes from fields what holds a stale token and nothing else, and
// returns what is left. It judges that too: without a cookie, the app may read
// another token from the others. A live session that is left goes on as if it had
// been alone. If the stale tokens cannot be told from the others, nothing is left.
//
// check is the check of the whole, which Separate completes.
func Separate(reader *session.Reader, fields http.Header, judgements []Judgement, check *Check,
	read func(http.Header, *session.Session), judge func([]session.Token) []Judgement,
) http.Header {
	isStale := func(j Judgement) bool { return j.Verdict == Stale }
	var ended []string
	current := check.Session
	for range maxSeparations {
		if len(judgements) == 0 { // too large to be read
			break
		}
		reader.Remove(fields, current.Tokens, func(i int) bool { return isStale(judgements[i]) })
		for i, j := range judgements {
			if isStale(j) {
				ended = append(ended, current.Tokens[i].Names...)
			}
		}
		left := new(session.Session)
		if read(fields, left); left.TooLarge {
			break // nobody knows what is left
		}
		judgements = judge(left.Tokens)
		if slices.ContainsFunc(judgements, isStale) {
			current = left
			continue
		}
		check.Ended = endedNames(ended, check.Session.Names, left)
		if rest := Whole(left, judgements); len(left.Tokens) > 0 || rest.Verdict == Unknown {
			if check.Verdict == Stale {
				stale := check.Judgement
				check.Dissent = &stale
			}
			if rest.Verdict == Live && len(left.Tokens) == 1 {
				for _, name := range left.Tokens[0].Names {
					if left.Count(name) == 1 && check.Session.Count(name) > 1 {
						check.Beside = append(check.Beside, name)
					}
				}
			}
			left.Unread = check.Session.Unread
			check.Judgement, check.Session = rest.Judgement, left
		}
		return fields
	}
	reader.Strip(fields)
	reader.StripSetCookies(fields)
	return fields
}

// endedNames returns the names of removed cookies of which none is left, in the
// order of all.
func endedNames(removed, all []string, left *session.Session) []string {
	var names []string
	for _, name := range removed {
		if !slices.Contains(names, name) && !left.Has(name) {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return slices.Index(all, a) - slices.Index(all, b) })
	return names
}
