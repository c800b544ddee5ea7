// Package eventually lets tests wait for a condition.
package eventually

import (
	"testing"
	"time"
)

// Holds polls until a condition holds. After a minute it fails the test, with what,
// a description of the condition.
func Holds(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between two polls
	}
}
