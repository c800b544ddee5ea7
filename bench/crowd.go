package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"
)

// crowd keeps very many connections open, like as many open pages, and sends two
// requests on each. Every second connection has a stale session.
func (s *soaking) crowd(ctx context.Context, size int) error {
	gone, err := sessionV4(subject(gone))
	if err != nil {
		return err
	}
	address := strings.TrimPrefix(s.url, "http://")
	open := make([]net.Conn, size)
	defer func() {
		for _, conn := range open {
			if conn != nil {
				_ = conn.Close() // nothing more is sent
			}
		}
	}()
	for range 2 {
		lanes, ctx := errgroup.WithContext(ctx)
		for lane := range askers {
			lanes.Go(func() error {
				for n := lane; n < size; n += askers {
					if open[n] == nil {
						var dialer net.Dialer
						conn, err := dialer.DialContext(ctx, "tcp", address)
						if err != nil {
							return err
						}
						open[n] = conn
					}
					session, want := s.users[n%len(s.users)].session, http.StatusOK
					if n%2 == 1 {
						session, want = gone, http.StatusUnauthorized
					}
					status, err := askOn(open[n], address, session)
					if err != nil || status != want {
						return errors.Join(err, fmt.Errorf("of %d connections one got %d instead of %d", size, status, want))
					}
				}
				return nil
			})
		}
		if err := lanes.Wait(); err != nil {
			return err
		}
	}
	resident, err := residentMemory(s.caddy.Process.Pid)
	fmt.Printf("%d connections at a time, %d requests: 0 wrong verdicts, %d MiB resident\n", size, 2*size, resident>>20)
	return err
}

// askOn sends a request on a connection, which stays open.
func askOn(conn net.Conn, host, cookie string) (status int, err error) {
	if _, err := fmt.Fprintf(conn, "GET /admin HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", host, cookie); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}
