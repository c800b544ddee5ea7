package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// errReplica is the error of Gone if no primary can be asked.
var errReplica = &directories.Error{Class: directories.Standby, Text: "only a standby answers, which may lag: add the primary to the address, as in host=standby,primary"}

// Gone returns which of some ids are of no user, by the proof that ends a session,
// and how many are of a user. With an error, others may be of none too, but that is
// not proven. An id that no row of the users table can have is neither: it may be
// one of another table.
func (d *Directory) Gone(ctx context.Context, ids []string) (gone []string, found int, err error) {
	queries := make([]directories.Query, len(ids))
	for i, id := range ids {
		queries[i] = directories.Query{Subject: []byte(id), Since: time.Now()}
	}
	accounts, err := d.Lookup(ctx, queries)
	if err != nil {
		return nil, 0, err
	}
	t := d.ids.Load()
	if t == nil {
		return nil, 0, errors.New("the type of the ids is not known")
	}
	for i, a := range accounts {
		_, possible := t.canonical(queries[i].Subject)
		switch {
		case a.Failure != nil:
			err = a.Failure
		case a.Exists:
			found++
		case a.Replica:
			err = errReplica
		case possible:
			gone = append(gone, ids[i])
		}
	}
	return gone, found, err
}
