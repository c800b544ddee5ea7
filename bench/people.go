package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

const (
	secret        = "a secret of the bench"
	cookieV4      = "next-auth.session-token"
	cookieV5      = "authjs.session-token"
	subjectPrefix = "cbench" // subjects are as long as Prisma's, 25 characters
	loggedRole    = "logged"
	// people is the minimum number of users.
	people = 1_000_000
	// few is the number of sessions of the groups other than many.
	few = 1000
	// gone is a user who does not exist.
	gone = 9_999_999_999
)

// subject returns the id of a person.
func subject(n int) string { return fmt.Sprintf("%s%019d", subjectPrefix, n) }

// newDatabase starts a server with a users table as Prisma creates it, filled
// with people, and a role whose statements are logged.
func newDatabase(ctx context.Context, people int, settings ...string) (*pgtest.Server, error) {
	// Autovacuum writes too, which would count as a change.
	server, err := pgtest.Start(ctx, append(settings, "shared_buffers=256MB", "max_wal_size=4GB", "autovacuum=off")...)
	if err != nil {
		return nil, err
	}
	return server, server.Exec(ctx, "postgres",
		`create table "User" (id text primary key, name text, email text unique, "emailVerified" timestamp(3),
			image text, "createdAt" timestamp(3) not null default current_timestamp)`,
		fmt.Sprintf(`insert into "User" (id, name, email) select '%s' || lpad(n::text, 19, '0'), 'Person ' || n,
			'person' || n || '@example.com' from generate_series(0, %d) n`, subjectPrefix, people-1),
		`vacuum analyze "User"`,
		"create role "+loggedRole+" login superuser",
		"alter role "+loggedRole+" set log_statement = 'all'",
	)
}

// sessionV4 returns the Cookie field of a user who signed in to NextAuth v4 an
// hour ago.
func sessionV4(subject string) (string, error) {
	token, err := mint.V4(secret, claims(subject))
	return "theme=dark; " + cookieV4 + "=" + token, err
}

// sessionV5 does the same for Auth.js v5.
func sessionV5(subject string) (string, error) {
	token, err := mint.V5(secret, cookieV5, claims(subject))
	return "theme=dark; " + cookieV5 + "=" + token, err
}

func claims(subject string) map[string]any {
	return map[string]any{
		"sub": subject, "name": "A Person", "email": "person@example.com", "iat": time.Now().Add(-time.Hour).Unix(),
	}
}

// sessions are the lines of a file, one for each person. All have one length.
type sessions struct {
	file         string
	length       int // of a line, with its end
	first, count int
	mint         func(subject string) (string, error)
}

// part returns some of the sessions.
func (s sessions) part(first, count int) sessions {
	s.first, s.count = first, count
	return s
}

// writeSessions writes a file with the sessions of the first people.
func writeSessions(file string, count int, mint func(subject string) (string, error)) (sessions, error) {
	one, err := mint(subject(0))
	if err != nil {
		return sessions{}, err
	}
	s := sessions{file: file, length: len(one) + 1, count: count, mint: mint}
	f, err := os.Create(file)
	if err != nil {
		return sessions{}, err
	}
	defer f.Close()
	const batch = 1000
	var writers errgroup.Group
	writers.SetLimit(runtime.NumCPU())
	for first := 0; first < count; first += batch {
		writers.Go(func() error {
			lines := make([]byte, 0, batch*s.length)
			for n := first; n < min(first+batch, count); n++ {
				line, err := mint(subject(n))
				if err != nil {
					return err
				}
				if len(line)+1 != s.length {
					return fmt.Errorf("the session of person %d differs in length", n)
				}
				lines = append(append(lines, line...), '\n')
			}
			_, err := f.WriteAt(lines, int64(first*s.length))
			return err
		})
	}
	return s, writers.Wait()
}

// read returns the nth session of these.
func (s sessions) read(file *os.File, n int) (string, error) {
	line := make([]byte, s.length-1)
	_, err := file.ReadAt(line, int64((s.first+n)*s.length))
	return string(line), err
}
