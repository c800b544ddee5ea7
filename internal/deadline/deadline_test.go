package deadline

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestContext(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	past, later := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	soon, cancelSoon := context.WithDeadline(t.Context(), later.Add(-time.Minute))
	defer cancelSoon()
	for name, c := range map[string]struct {
		parent   context.Context
		at       time.Time
		deadline time.Time
		err      error
	}{
		"before the deadline":        {t.Context(), later, later, nil},
		"after the deadline":         {t.Context(), past, past, context.DeadlineExceeded},
		"the client has left":        {canceled, later, later, context.Canceled},
		"the parent's comes earlier": {soon, later, later.Add(-time.Minute), nil},
	} {
		for _, waited := range []bool{false, true} {
			var ctx Context
			ctx.Set(c.parent, c.at)
			if waited {
				select {
				case <-ctx.Done():
					if c.err == nil {
						t.Errorf("%s: done", name)
					}
				default:
					if c.err != nil {
						t.Errorf("%s: not done", name)
					}
				}
			}
			if at, ok := ctx.Deadline(); !ok || !at.Equal(c.deadline) {
				t.Errorf("%s: deadline %s, %t", name, at, ok)
			}
			if err := ctx.Err(); !errors.Is(err, c.err) {
				t.Errorf("%s, waited %t: %v", name, waited, err)
			}
			ctx.End()
		}
	}
}

func TestAContextThatIsSetAgainBeginsAgain(t *testing.T) {
	t.Parallel()
	var ctx Context
	ctx.Set(t.Context(), time.Now().Add(-time.Second))
	<-ctx.Done()
	ctx.Set(t.Context(), time.Now().Add(time.Hour))
	select {
	case <-ctx.Done():
		t.Error("it is done")
	default:
	}
	ctx.End()
}

func TestARequestThatDoesNotWaitAllocatesNothing(t *testing.T) {
	var ctx Context
	at := time.Now().Add(time.Hour)
	if n := testing.AllocsPerRun(100, func() {
		ctx.Set(t.Context(), at)
		_ = ctx.Err()
		ctx.End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
