package stalesession

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

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
