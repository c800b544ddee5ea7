package accounts

import (
	"fmt"
	"testing"
)

func TestWindowsOfRecentUse(t *testing.T) {
	t.Parallel()
	r := recent{limit: 2}
	for _, c := range []struct {
		window uint32
		add    string
		added  bool
		want   string
	}{
		{1, "a", true, "[a]"},
		{1, "b", true, "[a b]"},
		{1, "c", false, "[a b]"},
		{2, "c", true, "[c a b]"},
		{3, "", false, "[c]"},
		{4, "d", true, "[d]"},
		{9, "e", true, "[e]"},
		{20, "", false, "[]"},
	} {
		if c.add != "" {
			if added := r.add(c.window, []byte(c.add)); added != c.added {
				t.Errorf("%s in %d was listed: %t", c.add, c.window, added)
			}
		}
		list := r.list(c.window)
		left, all := list.count, []string{}
		for subject := list.next(); subject != nil; subject = list.next() {
			all = append(all, string(subject))
		}
		if got := fmt.Sprint(all); got != c.want || left != len(all) {
			t.Errorf("in %d: %s, want %s, and %d", c.window, got, c.want, left)
		}
	}
}
