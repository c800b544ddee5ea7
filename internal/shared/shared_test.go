package shared

import (
	"errors"
	"testing"
)

// counted counts how often it is opened and closed.
type counted struct{ opened, closed int }

func (c *counted) open() (*counted, func() error, error) {
	c.opened++
	return c, func() error { c.closed++; return nil }, nil
}

func TestAValueIsClosedAfterItsLastUse(t *testing.T) {
	pool, one, other := NewPool[*counted](), new(counted), new(counted)
	acquire := func(key any, c *counted) (value *counted, release func()) {
		t.Helper()
		value, give, err := pool.Acquire(key, c.open)
		if err != nil {
			t.Fatal(err)
		}
		return value, func() {
			if err := give(); err != nil {
				t.Error(err)
			}
		}
	}
	first, releaseFirst := acquire([]string{"dsn", "a"}, one)
	second, releaseSecond := acquire([]string{"dsn", "a"}, one)
	third, releaseThird := acquire([]string{"dsn", "b"}, other)
	if first != one || second != one || third != other {
		t.Error("equal keys do not share a value, or others do")
	}
	if one.opened != 1 || len(pool.All()) != 2 {
		t.Errorf("opened %d times, %d values in use", one.opened, len(pool.All()))
	}
	releaseFirst()
	if one.closed != 0 {
		t.Error("it was closed while in use")
	}
	releaseSecond()
	releaseThird()
	if one.closed != 1 || other.closed != 1 || len(pool.All()) != 0 {
		t.Errorf("closed %d and %d times, %d values in use", one.closed, other.closed, len(pool.All()))
	}
	_, release := acquire([]string{"dsn", "a"}, one)
	defer release()
	if one.opened != 2 {
		t.Error("it was not opened again")
	}
}

func TestAValueThatCannotBeOpenedIsNotKept(t *testing.T) {
	pool, away := NewPool[int](), errors.New("unavailable")
	if _, _, err := pool.Acquire("a", func() (int, func() error, error) { return 0, nil, away }); !errors.Is(err, away) {
		t.Errorf("error %v", err)
	}
	if _, _, err := pool.Acquire(func() {}, func() (int, func() error, error) { return 0, nil, nil }); err == nil {
		t.Error("a key that cannot be encoded is accepted")
	}
	if all := pool.All(); len(all) != 0 {
		t.Errorf("%d values in use", len(all))
	}
	value, release, err := pool.Acquire("a", func() (int, func() error, error) { return 7, func() error { return away }, nil })
	if err != nil || value != 7 {
		t.Fatalf("%d, error %v, at the second try", value, err)
	}
	if err := release(); !errors.Is(err, away) {
		t.Errorf("error %v at the end", err)
	}
}
