package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// lookups counts the lookups of the module in Postgres.
type lookups struct {
	Statements int
	Subjects   int // in all statements
	people     int // different ones
}

// parameters matches the line that Postgres logs for a statement whose parameter
// is a list.
var parameters = regexp.MustCompile(`^.* DETAIL:  [Pp]arameters: \$1 = '\{([^}]*)\}'`)

// countLookups counts the lookups in a log of Postgres.
func countLookups(log io.Reader) (lookups, error) {
	var l lookups
	seen := map[string]struct{}{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		match := parameters.FindSubmatch(lines.Bytes())
		if match == nil || !strings.HasPrefix(string(match[1]), subjectPrefix) {
			continue
		}
		l.Statements++
		for subject := range strings.SplitSeq(string(match[1]), ",") {
			l.Subjects++
			seen[subject] = struct{}{}
		}
	}
	l.people = len(seen)
	return l, lines.Err()
}

// lookupsSince counts the lookups in the log of Postgres after an offset, and
// returns the offset of its end.
func (b *bed) lookupsSince(place int64) (lookups, int64, error) {
	log, err := os.Open(b.postgres.LogFile())
	if err != nil {
		return lookups{}, 0, err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return lookups{}, 0, err
	}
	l, err := countLookups(io.NewSectionReader(log, place, info.Size()-place))
	return l, info.Size(), err
}

// warmed returns an error unless everybody who should be cached before a
// measurement was looked up.
func (l lookups) warmed(targets []target) error {
	for _, t := range targets {
		if t.hits && l.people < t.sessions.count {
			return fmt.Errorf("%s: of %d people Postgres was asked for %d", t.name, t.sessions.count, l.people)
		}
	}
	return nil
}

// hits returns an error if there were so many lookups that most requests cannot
// have been cache hits.
func (l lookups) hits(requests int) error {
	if l.Subjects > requests/10 {
		return errors.New("Postgres was asked for " + fmt.Sprintf("%d subjects in %d requests, which should all be cached", l.Subjects, requests))
	}
	return nil
}
