package postgres

import (
	"context"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// ByAccount implements identities.Users.
func (d *Directory) ByAccount(ctx context.Context, providers []string, sub string) ([]string, error) {
	return nil, &directories.Error{Class: directories.Other, Text: "not implemented"}
}

// ByEmail implements identities.Users.
func (d *Directory) ByEmail(ctx context.Context, email string) ([]string, error) {
	return nil, &directories.Error{Class: directories.Other, Text: "not implemented"}
}
