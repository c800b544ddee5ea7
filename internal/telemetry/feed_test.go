package telemetry

import (
	"strconv"
	"testing"
)

func TestFollowReturnsTheLatestEventsFirst(t *testing.T) {
	for i := range 3*maxEvents + 7 {
		feed.add("happened", map[string]any{"number": strconv.Itoa(i)})
		all, _, stop := Follow(0)
		stop()
		if want := min(maxEvents, i+1); len(all) < want || len(all) > maxEvents {
			t.Fatalf("%d events after %d, want %d", len(all), i+1, want)
		}
		if last := all[len(all)-1]; last.Details["number"] != strconv.Itoa(i) {
			t.Fatalf("the last is %v, not %d", last.Details["number"], i)
		}
	}
	all, next, stop := Follow(0)
	defer stop()
	for i, event := range all {
		if i > 0 && event.ID <= all[i-1].ID {
			t.Errorf("event %d has the ID %d, after %d", i, event.ID, all[i-1].ID)
		}
		if want := strconv.Itoa(2*maxEvents + 7 + i); event.Details["number"] != want {
			t.Errorf("event %d is %v, want %s", i, event.Details["number"], want)
		}
	}
	since, _, stopSince := Follow(all[maxEvents-3].ID)
	defer stopSince()
	if len(since) != 2 || since[0].ID != all[maxEvents-2].ID {
		t.Errorf("%d events since the last but two", len(since))
	}
	feed.add("later", nil)
	if event := <-next; event.Name != "later" {
		t.Errorf("then came %q", event.Name)
	}
}
