package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// ttl is how long the module uses an account by default.
const ttl = 30 * time.Second

// logPrefix makes the server's log lines begin with the time of day.
const logPrefix = "log_line_prefix=%n "

// lookup is a line that the server logs of a lookup: the time in seconds since
// 1970, and the subject.
var lookup = regexp.MustCompile(`(?m)^(\d+\.\d+) DETAIL:  [Pp]arameters: \$1 = '\{(` + subjectPrefix + `\d+)\}'`)

// countLookups returns how many lookups the server's log holds. It is an error
// when one of the subjects was never asked for, or more than once in a TTL.
func countLookups(log string, subjects int) (int, error) {
	asked := map[string]float64{}
	found := lookup.FindAllStringSubmatch(log, -1)
	for _, match := range found {
		at, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			return 0, fmt.Errorf("the server's log: %w", err)
		}
		// The clock of the log has milliseconds.
		if before, ok := asked[match[2]]; ok && at-before < ttl.Seconds()-0.01 {
			return 0, fmt.Errorf("%s was asked for twice in %.3f seconds", match[2], at-before)
		}
		asked[match[2]] = at
	}
	if len(asked) != subjects {
		return 0, errors.New("only " + strconv.Itoa(len(asked)) + " of " + strconv.Itoa(subjects) + " subjects were ever asked for")
	}
	return len(found), nil
}
