package admin

import (
	"slices"
	"testing"
)

func modes() []string {
	var all []string
	for _, h := range handlers() {
		all = append(all, h.Mode)
	}
	return all
}

// A reload adds the new handler before it removes the old one, and both can have
// the same options.
func TestAHandlerIsShownUntilItIsRemoved(t *testing.T) {
	step := func(what string, want ...string) {
		t.Helper()
		if got := modes(); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	step("at first")
	removeOld := AddHandler(Handler{Mode: "enforce"})
	removeOther := AddHandler(Handler{Mode: "observe"})
	step("after two were added", "enforce", "observe")
	removeNew := AddHandler(Handler{Mode: "enforce"})
	removeOld()
	step("after a reload", "observe", "enforce")
	removeOld()
	step("after the old one was removed twice", "observe", "enforce")
	removeOther()
	removeNew()
	step("at last")
}
