package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// heldSpread is how long it takes until all streams are open, and heldRetry about how
// long a client waits before it connects again.
const (
	heldSpread = 20 * time.Second
	heldRetry  = 2 * time.Second
)

// held counts the streams of a soak that stay open until their session ends, one of
// each user.
type held struct{ opened, open, refused, closed, ended, left, wrong atomic.Int64 }

func (h *held) String() string {
	return fmt.Sprintf("%d streams open at a time, %d opened: %d ended with their session, %d were refused, %d were closed otherwise, as by a reload: %d of live users were ended, %d of users who were gone were left",
		soakUsers, h.opened.Load(), h.ended.Load(), h.refused.Load(), h.closed.Load(), h.wrong.Load(), h.left.Load())
}

// absence is a time in which a user may have been gone: from before the deletion to the
// return after the insertion. It is not over while until is zero.
type absence struct{ from, until time.Time }

// hold keeps a stream of a user open.
func (s *soaking) hold(ctx context.Context, n int, kind streamKind) error {
	// Not all at once: what a busy machine does not admit in time comes back, too.
	wait := rand.N(heldSpread)
	u, base := &s.users[n], s.url
	if kind.secure {
		base = s.secure
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = heldRetry/2 + rand.N(heldRetry)
		began := time.Now()
		opening, cancel := context.WithCancel(ctx)
		stream, err := kind.open(opening, kind.transport, base, u.session)
		var answer *refused
		switch {
		case errors.As(err, &answer) && answer.status == http.StatusUnauthorized:
			s.held.refused.Add(1)
			if exists, since, busy := u.state(); exists && !busy && began.Sub(since) > s.bound(since) {
				fmt.Printf("wrong verdict: %s refused, %s after the insertion\n", kind.name, began.Sub(since))
				s.held.wrong.Add(1)
			}
		case err != nil: // by a reload
			s.held.closed.Add(1)
		default:
			s.held.opened.Add(1)
			s.held.open.Add(1)
			if !s.leaves(ctx, n, stream) {
				fmt.Printf("%s of user %d was left\n", kind.name, n)
				s.held.left.Add(1)
			}
			s.held.open.Add(-1)
		}
		cancel()
	}
}

// leaves waits until a stream ends. It returns false if that is of a user who has been
// gone for too long.
func (s *soaking) leaves(ctx context.Context, n int, stream *opened) bool {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return true
		case <-stream.done:
			if errors.Is(stream.err, errComplete) || errors.Is(stream.err, errOther) {
				s.held.closed.Add(1)
			}
			return true
		case <-ticker.C:
			exists, since, busy := s.users[n].state()
			if gone := time.Since(since); !exists && !busy && gone > s.bound(since) && !stream.over() {
				return false
			}
		}
	}
}

// bound is how long after a change a verdict may be outdated.
func (s *soaking) bound(since time.Time) time.Duration {
	if time.Unix(0, s.killed.Load()).After(since) {
		return soakBlind
	}
	return soakBound
}

// endedLog is the file of the default logger, the one that tells which streams were ended.
func (s *soaking) endedLog() string { return filepath.Join(s.bed.dir, "ended.log") }

// check compares the streams that Caddy says it has ended with when the users were gone.
func (s *soaking) check() error {
	file, err := os.Open(s.endedLog())
	if err != nil {
		return err
	}
	defer file.Close()
	numbers := make(map[string]int, len(s.users))
	for i := range s.users {
		numbers[subject(i)] = i
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), []byte("ended a stream of a stale session")) {
			continue
		}
		var line struct {
			TS      float64
			Subject string
			Kind    string
			Reason  string
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		at := time.UnixMicro(int64(line.TS * 1e6))
		n, known := numbers[line.Subject]
		if !known || !s.users[n].wasGone(at) {
			fmt.Printf("wrong end of a stream: %s\n", lines.Bytes())
			s.held.wrong.Add(1)
		}
		s.held.ended.Add(1)
	}
	return lines.Err()
}

// wasGone reports whether a user may have been gone shortly before a time.
func (u *soaked) wasGone(at time.Time) bool {
	for _, a := range u.absences {
		if at.After(a.from.Add(-time.Millisecond)) && (a.until.IsZero() || at.Before(a.until.Add(soakBlind))) {
			return true
		}
	}
	return false
}
