package admin

import (
	"slices"
	"testing"
)

func modes() []string {
	var all []string
	for _, site := range sites() {
		all = append(all, site.Mode)
	}
	return all
}

// At a reload the new handler comes before the old one leaves, and both may
// look the same.
func TestAHandlerIsKnownUntilItLeaves(t *testing.T) {
	step := func(what string, want ...string) {
		t.Helper()
		if got := modes(); !slices.Equal(got, want) {
			t.Errorf("%s: %q are known, want %q", what, got, want)
		}
	}
	step("at first")
	leaveOld := Enlist(Site{Mode: "enforce"})
	leaveOther := Enlist(Site{Mode: "observe"})
	step("after two have come", "enforce", "observe")
	leaveNew := Enlist(Site{Mode: "enforce"})
	leaveOld()
	step("after a reload", "observe", "enforce")
	leaveOld()
	step("after the old one has left again", "observe", "enforce")
	leaveOther()
	leaveNew()
	step("at last")
}
