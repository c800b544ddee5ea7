package redis

import (
	"context"
	"slices"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// watch pings the servers. The client receives the changes that they report.
type watch struct {
	d       *Directory
	servers []string
	swaps   string // of each server
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
		return nil, classify(err)
	}
	return w, nil
}

// Wait implements directories.Watch.
func (w *watch) Wait(ctx context.Context) error {
	timer := time.NewTimer(time.Until(w.pinged.Add(pingPeriod)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		// ctx may be done before the answer arrives.
		if err := w.ping(context.WithoutCancel(ctx)); err != nil {
			return classify(err)
		}
		timer.Reset(pingPeriod)
	}
}

// ping pings all servers.
func (w *watch) ping(ctx context.Context) error {
	servers, err := w.d.client.Servers(ctx)
	if err != nil {
		return err
	}
	swaps, err := w.d.client.swaps(ctx)
	if err != nil {
		return err
	}
	if w.servers != nil && (!slices.Equal(servers, w.servers) || swaps != w.swaps) { // keys may have moved to a new server, or database
		w.d.invalidate(nil)
	}
	w.servers, w.swaps, w.pinged = servers, swaps, time.Now()
	return nil
}

// Close implements directories.Watch.
func (w *watch) Close() error {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.changed = nil
	return nil
}
