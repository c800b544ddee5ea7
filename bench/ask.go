package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"golang.org/x/sync/errgroup"
)

// askers is the maximum number of concurrent requests of the bench itself.
const askers = 64

var transport = &http.Transport{MaxIdleConnsPerHost: askers, TLSClientConfig: trusting}

// trusting trusts Caddy's own authority, on the loopback.
var trusting = &tls.Config{InsecureSkipVerify: true}

// prove checks that every target that checks sessions refuses a stale one, and
// that the others pass it.
func (b *bed) prove(ctx context.Context, targets []target) error {
	for _, t := range targets {
		stale, err := t.sessions.mint(subject(gone))
		if err != nil {
			return err
		}
		status, body, err := ask(ctx, t.url, stale)
		switch {
		case err != nil:
			return err
		case t.checks != (status == http.StatusUnauthorized), !t.checks && (status != http.StatusOK || body != appBody):
			return fmt.Errorf("%s answers a stale session with %d %q", t.name, status, body)
		}
	}
	return nil
}

// warm sends each of its sessions to a target once, if the target caches them.
func (b *bed) warm(ctx context.Context, t target) error {
	if !t.hits {
		return nil
	}
	file, err := os.Open(t.sessions.file)
	if err != nil {
		return err
	}
	defer file.Close()
	warmers, ctx := errgroup.WithContext(ctx)
	for i := range askers {
		warmers.Go(func() error {
			for n := i; n < t.sessions.count; n += askers {
				session, err := t.sessions.read(file, n)
				if err != nil {
					return err
				}
				if status, body, err := ask(ctx, t.url, session); err != nil || status != http.StatusOK || body != appBody {
					return errors.Join(err, fmt.Errorf("%s answers a live session with %d %q", t.name, status, body))
				}
			}
			return nil
		})
	}
	return warmers.Wait()
}

// ask sends a request with a Cookie field, without the headers of a browser.
func ask(ctx context.Context, url, cookie string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Cookie", cookie)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}
