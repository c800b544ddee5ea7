package stalesession

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// maxSeparations is how many times separate reads what is left of a session.
const maxSeparations = 4

// sessionFields returns the fields of a header that hold sessions.
func sessionFields(header http.Header) http.Header {
	fields := make(http.Header)
	for _, name := range []string{"Cookie", "Authorization", "Set-Cookie"} {
		if lines := header[name]; lines != nil {
			fields[name] = lines
		}
	}
	return fields
}

// separate removes from fields what holds a stale token and nothing else, and
// returns what is left. It judges that too: without a cookie, the app may read
// another token from the others. A live session that is left goes on as if it had
// been alone. If the stale tokens cannot be told from the others, nothing is left.
//
// check is the check of the whole, which separate completes.
func (v *validator) separate(fields http.Header, judgements []verdict.Judgement, check *verdict.Check,
	read func(http.Header, *session.Session), judge func([]session.Token) []verdict.Judgement,
) http.Header {
	isStale := func(j verdict.Judgement) bool { return j.Verdict == verdict.Stale }
	var ended []string
	current := check.Session
	for range maxSeparations {
		if len(judgements) == 0 { // too large to be read
			break
		}
		v.reader.Remove(fields, current.Tokens, func(i int) bool { return isStale(judgements[i]) })
		for i, j := range judgements {
			if isStale(j) {
				ended = append(ended, current.Tokens[i].Names...)
			}
		}
		left := new(session.Session)
		read(fields, left)
		judgements = judge(left.Tokens)
		if slices.ContainsFunc(judgements, isStale) {
			current = left
			continue
		}
		check.Ended = endedNames(ended, check.Session.Names, left)
		if rest := verdict.Whole(left, judgements); len(left.Tokens) > 0 || rest.Verdict == verdict.Unknown {
			if check.Verdict == verdict.Stale {
				stale := check.Judgement
				check.Dissent = &stale
			}
			check.Judgement, check.Session = rest.Judgement, left
		}
		return fields
	}
	v.reader.Strip(fields)
	v.reader.StripSetCookies(fields)
	return fields
}

// marks returns the marks of the stale tokens.
func marks(tokens []session.Token, judgements []verdict.Judgement) []string {
	var all []string
	for i, j := range judgements {
		if mark := tokens[i].Mark(); j.Verdict == verdict.Stale && mark != "" && !slices.Contains(all, mark) {
			all = append(all, mark)
		}
	}
	return all
}

// endedNames returns the names of removed cookies of which none is left, in the
// order of all.
func endedNames(removed, all []string, left *session.Session) []string {
	var names []string
	for _, name := range removed {
		if !slices.Contains(names, name) && !slices.Contains(left.Names, name) &&
			!slices.ContainsFunc(left.Tokens, func(t session.Token) bool { return slices.Contains(t.Names, name) }) {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return slices.Index(all, a) - slices.Index(all, b) })
	return names
}

// judgeAgain judges tokens after the app's answer, by accounts that include every
// change made before since. While the brake is on, it finds only revoked ones
// stale.
func (v *validator) judgeAgain(ctx context.Context, tokens []session.Token, since time.Time) []verdict.Judgement {
	judgements := v.judge(ctx, tokens, time.Now(), since, nil)
	for i := range judgements {
		if j := &judgements[i]; j.Verdict == verdict.Stale && j.Source != accounts.FromRevocation && v.accounts.Braking() {
			j.Verdict, j.Reason = verdict.Unknown, ""
		}
	}
	return judgements
}

// spread makes the judgement on each token of a response stale if one of the
// request's tokens with the same subject is: the app has renewed it.
func spread(set []session.Token, judgements []verdict.Judgement, sent []session.Token, died []verdict.Judgement) {
	for i := range set {
		for k := range sent {
			if died[k].Verdict == verdict.Stale && bytes.Equal(set[i].Claims.Subject, sent[k].Claims.Subject) && judgements[i].Verdict != verdict.Stale {
				judgements[i] = died[k]
			}
		}
	}
}
