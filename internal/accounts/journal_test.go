package accounts

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// Nobody fills the log, and what to do is not lost in it.
func TestHowOftenFailuresAreLogged(t *testing.T) {
	t.Parallel()
	repeat := func(times int, failures ...directories.Error) (all []directories.Error) {
		for range times {
			all = append(all, failures...)
		}
		return all
	}
	down := func(text string) directories.Error { return directories.Error{Class: directories.Down, Text: text} }
	rights := func(text string) directories.Error { return directories.Error{Class: directories.Rights, Text: text} }
	many := make([]directories.Error, 10*maxProblems)
	for i := range many {
		many[i] = rights(fmt.Sprint("table ", i))
	}
	for name, c := range map[string]struct {
		failures []directories.Error
		lines    int
	}{
		"the same":                             {repeat(100, rights("a table")), 1},
		"others, which the directory answers":  {repeat(100, rights("a table"), rights("a schema")), 2},
		"others, while there is no connection": {repeat(100, down("closed"), down("refused")), 1},
		"too many others":                      {many, maxProblems + 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				core, lines := observer.New(zap.InfoLevel)
				j := journal{logger: func() *zap.Logger { return zap.New(core) }, happened: func(Event, map[string]any) {}}
				for n := range 2 {
					for _, failure := range c.failures {
						j.failed(&failure)
					}
					if got := lines.Len(); got != (n+1)*c.lines {
						t.Errorf("%d lines, want %d", got, (n+1)*c.lines)
					}
					if len(j.problems) > maxProblems+1 {
						t.Errorf("%d problems are told apart", len(j.problems))
					}
					time.Sleep(logPeriod)
				}
			})
		})
	}
}
