package postgres

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// foundIn records the tables in which the subject of a session was found, by
// name: a reset keeps the name.
type foundIn struct{ tables sync.Map }

func (f *foundIn) add(table string) {
	if !f.has(table) {
		f.tables.Store(table, nil)
	}
}

func (f *foundIn) has(table string) bool {
	_, found := f.tables.Load(table)
	return found
}

// doubt is why what was found may not be what the app sees, and what to do about
// it.
type doubt struct{ text, remedy string }

func (d doubt) err() error {
	return &directories.Error{Class: directories.Unproven, Text: d.text + ": " + d.remedy}
}

// doubt returns why nothing that a statement finds, or does not find, ends a
// session; nil for no reason. A query is the operator's responsibility.
func (s *statement) doubt() *doubt {
	r := s.relation
	switch {
	case r.lags != "":
		return &doubt{s.table + " may be behind what the app sees: " + r.lags, "set `database` to the address of the app's own database, and name its users table"}
	case s.table != "" && !r.named && !r.isTable():
		return &doubt{s.table + " is not a table, and may omit users", "name the app's table, or this if it has all users: " + lines(r)}
	}
	return nil
}

// prove turns what proves nothing into failures. Hidden is the doubt that rows are
// hidden; nil if none is.
func (d *Directory) prove(ctx context.Context, conn *pgx.Conn, s *statement, hidden *doubt, queries []directories.Query, accounts []directories.Account) error {
	general := s.doubt()
	elsewhere, err := d.rivalDoubts(ctx, conn, s, queries)
	if err != nil {
		return err
	}
	for i := range accounts {
		a := &accounts[i]
		why := general
		switch {
		case a.Failure != nil || !plausible(queries[i].Subject):
			continue
		case why != nil:
		case hidden != nil && (!a.Exists || !s.index.unique):
			why = hidden
		case elsewhere != nil:
			why = elsewhere[i]
		}
		if why != nil {
			a.Failure = why.err()
		}
	}
	return nil
}
