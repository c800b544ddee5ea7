package accounts

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

func TestAnAccountIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 1, 12, 0, 0, 500_000_000, time.UTC)
	opened := at.Add(-time.Hour)
	for name, a := range map[string]Account{
		"none": {},
		"all": {
			Account: directories.Account{Exists: true, Disabled: true, CreatedAt: at, ValidAfter: at.Add(1), Replica: true, AsOf: at.Add(time.Hour), Matched: [][]byte{[]byte("a@b.c"), nil, {}}},
			record:  record{asked: 7000, window: 8, watched: true},
		},
		"the usual":           {Account: directories.Account{Exists: true, CreatedAt: at, AsOf: opened.Add(time.Minute)}, record: record{asked: instant(time.Minute)}},
		"of a future":         {Account: directories.Account{Exists: true, AsOf: opened.AddDate(250, 0, 0)}, record: record{asked: instant(opened.AddDate(250, 0, 0).Sub(opened))}},
		"another's id before": {Account: directories.Account{Exists: true, CreatedAt: at, Matched: [][]byte{[]byte("a@b.c")}}, record: record{asked: 7000, replaced: 5000}},
		"nobody's now":        {record: record{asked: never, window: 3, replaced: 5000, former: at}},
		"doubted":             {Account: directories.Account{Exists: true, Disabled: true, AsOf: opened.Add(time.Minute)}, record: record{asked: instant(time.Minute), doubted: true}},
		"several rows":        {Account: directories.Account{Exists: true, Others: []directories.Account{{Exists: true, CreatedAt: at}}}, record: record{asked: 7000, replaced: 5000}},
		"long ago":            {Account: directories.Account{Exists: true, CreatedAt: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)}, record: record{asked: -2000}},
	} {
		var got Account
		got.encoded = a.appendTo(nil, opened)
		got.decode(opened)
		if got.Exists != a.Exists || got.Disabled != a.Disabled || !got.CreatedAt.Equal(a.CreatedAt.Truncate(time.Microsecond)) ||
			!got.ValidAfter.Equal(a.ValidAfter.Truncate(time.Microsecond)) || !got.AsOf.Equal(a.AsOf) ||
			got.replaced != a.replaced || !got.former.Equal(a.former) || len(got.Others) != len(a.Others) ||
			got.asked != a.asked || got.window != a.window || got.Replica != a.Replica || got.watched != a.watched || got.doubted != a.doubted {
			t.Errorf("%s: %+v", name, &got)
		}
		if fmt.Sprintf("%q", got.Matched) != fmt.Sprintf("%q", append([][]byte{}, a.Matched...)) {
			t.Errorf("%s: columns %q", name, got.Matched)
		}
	}
}
