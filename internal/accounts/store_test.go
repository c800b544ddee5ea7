package accounts

import (
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

func TestADroppedAccountIsNotBroughtBack(t *testing.T) {
	t.Parallel()
	c := newStore(100, time.Now(), time.Hour)
	key, now := []byte("ada"), time.Now()
	known := func(asked instant) *Account {
		return &Account{Account: directories.Account{Exists: true}, record: record{asked: asked}}
	}
	var a Account
	const tick = instant(time.Microsecond)
	asked := 9 * tick
	for name, drop := range map[string]func(){"alone": func() { c.drop(key, now) }, "with all": func() { c.dropAll(asked + tick) }} {
		generation := c.generation(key)
		drop()
		if kept, _ := c.keep(key, generation, now, known(asked)); kept || c.get(key, now, &a) {
			t.Errorf("dropped %s it was brought back", name)
		}
		asked += 2 * tick
		if kept, _ := c.keep(key, c.generation(key), now, known(asked)); !kept || !c.get(key, now, &a) {
			t.Errorf("dropped %s it cannot be kept again", name)
		}
	}
	if _, _ = c.keep(key, c.generation(key), now, &Account{record: record{asked: 8 * tick}}); !c.get(key, now, &a) || !a.Exists {
		t.Error("an earlier lookup has overwritten a later one")
	}
}
