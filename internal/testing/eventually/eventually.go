// Package eventually lets tests wait for a condition.
package eventually

import (
	"testing"
	"time"
)

// patience is long because tests run on slow machines.
const patience = 5 * time.Minute

// Holds polls until a condition holds. In the end it fails the test, with what, a
// description of the condition.
func Holds(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond) // between two polls
	}
}
