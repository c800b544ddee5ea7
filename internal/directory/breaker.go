package directory

import (
	"context"
	"time"

	"github.com/sony/gobreaker/v2"
)

// breakAfter failures in a row nobody waits for the database any more, and it
// is tried once every breakFor.
const (
	breakAfter = 3
	breakFor   = time.Second
)

func (p *Postgres) newBreaker() *gobreaker.CircuitBreaker[[]finding] {
	return gobreaker.NewCircuitBreaker[[]finding](gobreaker.Settings{
		Timeout:      breakFor,
		ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= breakAfter },
		IsSuccessful: func(err error) bool { return !down(err) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen && p.probing.CompareAndSwap(false, true) {
				p.background(p.probe)
			}
		},
	})
}

// probe tries the database until it answers, so that no request has to.
func (p *Postgres) probe() {
	defer p.probing.Store(false)
	for p.breaker.State() != gobreaker.StateClosed {
		if !p.pause(breakFor) {
			return
		}
		_, err := p.breaker.Execute(func() ([]finding, error) {
			ctx, cancel := context.WithTimeout(p.running, queryTimeout)
			defer cancel()
			return nil, classify(p.try(ctx))
		})
		if err == nil {
			p.journal.succeeded()
		} else if err = brokenOr(err); err != errBroken { //nolint:errorlint // it is never wrapped
			p.journal.failed(err)
		}
	}
}

// try asks the users table for nobody, which shows all the same whether it can
// be asked: whether it is there, and not locked.
func (p *Postgres) try(ctx context.Context) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	s, err := p.ready(ctx, conn.Conn(), statementAge)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, s.sql, []string{})
	return err
}

// pause waits, and returns false when the directory is closed meanwhile.
func (p *Postgres) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.running.Done():
		return false
	}
}
