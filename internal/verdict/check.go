package verdict

import (
	"slices"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// Judgement is the verdict on one token, or on a request as a whole.
type Judgement struct {
	// Verdict is Live, Stale or Unknown for a token; any for a request.
	Verdict Verdict
	// Reason is set when the verdict is Stale.
	Reason Reason
	// Subject is the user id that the token names.
	Subject []byte
	// Source tells where the account came from; empty when none was found.
	Source accounts.Source
	// Guessed reports whether the verdict is Unknown because the user is not found, which
	// proves nothing yet: see session.Evidence.
	Guessed bool
	// Alone reports whether this session alone has ended, and no other of its user.
	Alone bool
}

// Check is what was found out about the session of a request.
type Check struct {
	Judgement

	// Session is what was read from the request.
	Session *session.Session

	// Dissent is the judgement on a stale token that stands beside another
	// that is not; nil when there is none.
	Dissent *Judgement

	// Ended holds the names of the cookies that hold an ended session, and
	// nothing else: they are to be cleared.
	Ended []string

	// Beside holds the names of the cookies that the browser has twice or more: once
	// with the live session, which Session holds, and else with stale tokens.
	Beside []string

	// Strip tells that not all session cookies of the request may reach the app:
	// none, unless the stale ones can be told from the others.
	Strip bool

	// Braked reports whether the session is stale but must not end, because the
	// brake is on.
	Braked bool
}

// Whole decides about a request, given the judgement on each token that its
// cookies can be read as.
//
// A session ends only when every token is stale. A token that could not be
// judged makes the whole unknown. When a stale token stands beside another
// that is not, the app might act on either, so neither may reach it, as long as
// they cannot be told apart, and the request goes on as anonymous; it ends
// nobody's session, or a cookie tossed in from elsewhere could. Cookies that were
// too large to look at do not reach the app either, for the same reason. A session
// of which it is doubtful whether the app would take it ends nobody's either.
func Whole(s *session.Session, tokens []Judgement) Check {
	if len(tokens) == 0 {
		return Check{Judgement: Judgement{Verdict: withoutToken(s.Failure)}, Session: s, Strip: s.TooLarge}
	}
	whole := Check{Judgement: tokens[0], Session: s}
	for _, j := range tokens[1:] {
		if (j.Verdict == Stale) != (whole.Verdict == Stale) {
			return disagreeing(s, tokens)
		}
		if j.Verdict == Unknown {
			whole.Judgement = j
		}
	}
	if whole.Verdict == Stale {
		for i := range s.Tokens {
			if s.Tokens[i].Claims.Doubtful {
				return disagreeing(s, tokens)
			}
		}
		whole.Ended, whole.Strip = ended(s, tokens), true
	}
	return whole
}

// withoutToken is the verdict on a request that holds no token.
func withoutToken(failure session.Failure) Verdict {
	switch failure {
	case "":
		return Anonymous
	case session.KeysUnavailable:
		return Unknown
	default:
		return Invalid
	}
}

// disagreeing is the check of a request of which some tokens are stale and
// others are not.
func disagreeing(s *session.Session, tokens []Judgement) Check {
	check := Check{Judgement: Judgement{Verdict: Anonymous}, Session: s, Strip: true}
	for i, j := range tokens {
		if j.Verdict == Stale {
			check.Dissent = &tokens[i]
			break
		}
	}
	check.Ended = ended(s, tokens)
	return check
}

// ended returns the names of the cookies that hold stale tokens and nothing else.
func ended(s *session.Session, tokens []Judgement) []string {
	var names []string
	for i, j := range tokens {
		if j.Verdict == Stale {
			names = append(names, s.Tokens[i].Names...)
		}
	}
	isKept := func(name string) bool {
		for i, j := range tokens {
			if j.Verdict != Stale && s.Tokens[i].IsIn(name) {
				return true
			}
		}
		return false
	}
	slices.SortStableFunc(names, func(a, b string) int { return slices.Index(s.Names, a) - slices.Index(s.Names, b) })
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return isKept(name) || s.HoldsMore(name) })
}
