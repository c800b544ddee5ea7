package cache

import (
	"bytes"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestAnEntryExpires(t *testing.T) {
	c, now := New(1), time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	c.Set([]byte("k"), []byte("v"), now, time.Minute)
	for _, step := range []struct {
		after time.Duration
		found bool
	}{{0, true}, {time.Minute, true}, {2 * time.Minute, false}} {
		if _, found := c.Get([]byte("k"), nil, now.Add(step.after)); found != step.found {
			t.Errorf("after %s it is found: %t", step.after, found)
		}
	}
}

func TestAValueIsACopyInTheGivenMemory(t *testing.T) {
	c, now := New(1), time.Now()
	c.Set([]byte("k"), []byte("value"), now, time.Minute)
	var room [8]byte
	value, found := c.Get([]byte("k"), room[:], now)
	if !found || string(value) != "value" || &value[0] != &room[0] {
		t.Fatalf("%q, %t, not in the given memory", value, found)
	}
	value[0] = 'V'
	if again, _ := c.Get([]byte("k"), nil, now); string(again) != "value" {
		t.Errorf("%q: the entry itself was changed", again)
	}
	if long, found := c.Get([]byte("k"), room[:2], now); !found || string(long) != "value" {
		t.Errorf("%q, %t: with too little memory", long, found)
	}
}

func TestItIsBounded(t *testing.T) {
	c, now := New(512<<10), time.Now()
	for i := range 20_000 {
		c.Set([]byte(strconv.Itoa(i)), bytes.Repeat([]byte("x"), 100), now, time.Hour)
	}
	if s := c.Stats(); s.Entries == 0 || s.Entries > 5_000 || s.Evictions == 0 {
		t.Errorf("%+v", s)
	}
}

func TestClosingFreesTheMemory(t *testing.T) {
	c, now := New(64<<20), time.Now()
	c.Set([]byte("k"), []byte("v"), now, time.Hour)
	freed := make(chan struct{})
	runtime.AddCleanup(c.entries.Load(), func(struct{}) { close(freed) }, struct{}{})
	c.Close()
	for deadline, gone := time.Now().Add(time.Minute), false; !gone; {
		runtime.GC()
		select {
		case <-freed:
			gone = true
		case <-time.After(time.Millisecond): // between two polls
			if time.Now().After(deadline) {
				t.Fatal("the memory is still in use")
			}
		}
	}
	if _, found := c.Get([]byte("k"), nil, now); found {
		t.Error("an entry from before is found")
	}
	c.Set([]byte("k"), []byte("w"), now, time.Hour)
	c.Delete([]byte("k"))
	if value, found := c.Get([]byte("k"), nil, now); found {
		t.Errorf("%q was kept", value)
	}
	if c.Clear() != 0 || c.Stats().Entries != 0 {
		t.Error("there are entries")
	}
}

func TestAnEntryInUseIsNotEvicted(t *testing.T) {
	c, now := New(512<<10), time.Now()
	c.Set([]byte("used"), []byte("v"), now, time.Hour)
	for i := range 20_000 {
		now = now.Add(time.Second / 10)
		c.Set([]byte(strconv.Itoa(i)), make([]byte, 100), now, time.Hour)
		if _, found := c.Get([]byte("used"), nil, now); !found {
			t.Fatalf("the entry in use was evicted after %d others", i)
		}
	}
	c.Delete([]byte("used"))
	if _, found := c.Get([]byte("used"), nil, now); found {
		t.Error("a deleted entry was found")
	}
	if s := c.Stats(); s.Hits != 20_000 || s.Misses != 1 {
		t.Errorf("%+v", s)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := New(512 << 10)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 5_000 {
				key := []byte(strconv.Itoa(i % 100))
				c.Set(key, key, time.Now(), time.Hour)
				if value, found := c.Get(key, nil, time.Now()); found && string(value) != string(key) {
					t.Errorf("%s holds %s", key, value)
				}
				if i%7 == w {
					c.Delete(key)
				}
			}
		})
	}
	all.Wait()
}

func TestAClearedCacheKeepsItsCounters(t *testing.T) {
	c, now := New(1), time.Now()
	c.Set([]byte("k"), []byte("v"), now, time.Hour)
	_, _ = c.Get([]byte("k"), nil, now)
	if n := c.Clear(); n != 1 {
		t.Errorf("%d entries were deleted", n)
	}
	if _, found := c.Get([]byte("k"), nil, now); found {
		t.Error("it is still there")
	}
	if s := c.Stats(); s != (Stats{Bytes: 1, Hits: 1, Misses: 1}) {
		t.Errorf("%+v", s)
	}
}
