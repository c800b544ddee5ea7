package main

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/pgtest"
)

const (
	secret        = "a secret of the bench"
	cookieName    = "next-auth.session-token"
	people        = 1000
	subjectPrefix = "cbench" // subjects are as long as Prisma's, 25 characters
)

// schema is a users table as Prisma makes it, with people in it.
var schema = []string{
	`create table "User" (id text primary key, name text, email text unique, "emailVerified" timestamp(3),
		image text, "createdAt" timestamp(3) not null default current_timestamp)`,
	fmt.Sprintf(`insert into "User" (id, name, email) select '%s' || lpad(n::text, 19, '0'), 'Person ' || n,
		'person' || n || '@example.com' from generate_series(0, %d) n`, subjectPrefix, people-1),
	`analyze "User"`,
}

// newDatabase starts a server that logs each statement, with a users table.
func newDatabase(ctx context.Context) (*pgtest.Server, error) {
	server, err := pgtest.Start(ctx, "log_statement=all", logPrefix)
	if err != nil {
		return nil, err
	}
	return server, server.Exec(ctx, "postgres", schema...)
}

// session returns the Cookie field of somebody who signed in an hour ago.
func session(subject string) (string, error) {
	token, err := mint.V4(secret, map[string]any{
		"sub": subject, "name": "A Person", "email": "person@example.com", "iat": time.Now().Add(-time.Hour).Unix(),
	})
	return "theme=dark; " + cookieName + "=" + token, err
}

// sessions returns those of all people.
func sessions() ([]string, error) {
	all := make([]string, people)
	for i := range all {
		var err error
		if all[i], err = session(fmt.Sprintf("%s%019d", subjectPrefix, i)); err != nil {
			return nil, err
		}
	}
	return all, nil
}
