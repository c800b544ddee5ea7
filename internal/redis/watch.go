package redis

import (
	"context"
	"slices"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// watch waits for the changes that the servers report, and asks them now and
// then whether they are there.
type watch struct {
	d       *Directory
	servers []string
	pinged  time.Time
}

// Watch implements directories.Watcher.
func (d *Directory) Watch(ctx context.Context, changed func(subjects ...string)) (directories.Watch, error) {
	d.mu.Lock()
	d.changed = changed
	d.mu.Unlock()
	w := &watch{d: d}
	if err := w.ping(ctx); err != nil {
		_ = w.Close()
		return nil, classified(err)
	}
	return w, nil
}

// Wait implements directories.Watch.
func (w *watch) Wait(ctx context.Context) error {
	timer := time.NewTimer(time.Until(w.pinged.Add(pingEvery)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		// Not with ctx, which may be done in a moment.
		if err := w.ping(context.WithoutCancel(ctx)); err != nil {
			return classified(err)
		}
		timer.Reset(pingEvery)
	}
}

// ping asks each server whether it is there.
func (w *watch) ping(ctx context.Context) error {
	servers, err := w.d.client.Servers(ctx)
	if err != nil {
		return err
	}
	if w.servers != nil && !slices.Equal(servers, w.servers) { // keys may have moved to where nobody listened
		w.d.told(nil)
	}
	w.servers, w.pinged = servers, time.Now()
	return nil
}

// Close implements directories.Watch.
func (w *watch) Close() error {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.changed = nil
	return nil
}
