package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
)

// sites returns the handlers of a configuration file, or without a file one
// without options.
func (c commands) sites(file, adapter string) ([]Site, error) {
	if file != "" {
		return c.load(file, adapter)
	}
	site, err := c.describe([]byte("{}"))
	return []Site{site}, err
}

// examination finds problems. What sites share is examined once.
type examination struct {
	ctx   context.Context
	token string // empty for none
	once  map[string]bool
	found []directories.Finding // each once
}

func (x *examination) add(found ...directories.Finding) {
	for _, f := range found {
		if !slices.Contains(x.found, f) {
			x.found = append(x.found, f)
		}
	}
}

// first reports whether this is the first call with these values.
func (x *examination) first(what string, values ...any) bool {
	key := what
	for _, value := range values {
		text, err := json.Marshal(value)
		if err != nil {
			return true
		}
		key += " " + string(text)
	}
	done := x.once[key]
	x.once[key] = true
	return !done
}

// examine tests what a handler needs.
func (x *examination) examine(site Site) {
	var subject []byte
	var stores []formats.Store
	if reader, err := site.Reader(); err != nil {
		x.add(directories.Finding{Level: directories.Bad, Text: "sessions cannot be read", Remedy: err.Error()})
	} else {
		var found directories.Finding
		found, subject = examineReader(reader, x.token)
		x.add(found)
		stores = reader.Stores()
	}
	directory, err := openQuietly(site.Directory)
	if err != nil {
		x.add(directories.Finding{Level: directories.Bad, Text: "the database is not configured", Remedy: err.Error()})
	} else {
		if closer, ok := directory.(io.Closer); ok {
			defer closer.Close()
		}
		x.examineDirectory(site, directory, subject)
	}
	x.examineSessions(site.Directory, stores)
	if site.Unwatched {
		x.add(unwatched(site.Timeout))
	}
}

// examineSessions tests the tables in which apps keep their sessions. Without such a
// table there is nothing to say: most apps have none.
func (x *examination) examineSessions(module directories.Module, stores []formats.Store) {
	database, ok := module.(interface {
		Rows(of formats.Store) postgres.DatabaseOptions
		directories.Resolver
	})
	if !ok {
		return
	}
	resolved, err := database.Resolved()
	if err != nil {
		return // the findings of the directory have it
	}
	for _, store := range stores {
		if store.Redis == "" && store.Table != "" && x.first("sessions", resolved, store) {
			x.add(tryRows(x.ctx, database.Rows(store), store.Table)...)
		}
	}
}

// tryRows looks up a session that does not exist.
func tryRows(ctx context.Context, options postgres.DatabaseOptions, table string) []directories.Finding {
	config := options.Config()
	config.Logger = zap.NewNop
	rows, err := postgres.Open(config)
	if err != nil {
		return nil // the same address as that of the users
	}
	defer func() { _ = rows.Close() }() // it was only read
	_, err = confirm(ctx, rows, []byte(nobody))
	var failure *directories.Error
	switch {
	case err == nil:
		return []directories.Finding{{Level: directories.Good, Text: "who signs out elsewhere is noticed, by the table " + table}}
	case errors.As(err, &failure) && (failure.Class == directories.Rights || failure.Class == directories.Unproven):
		return []directories.Finding{{Level: directories.Note, Text: "who signs out elsewhere is noticed only when the cookie ends: the table " + table + " cannot be read", Remedy: err.Error()}}
	}
	return nil
}

// examineDirectory tests the directory of a handler, and where its revocations are. It
// looks a subject up, unless that is nil.
func (x *examination) examineDirectory(site Site, directory directories.Directory, subject []byte) {
	resolved := ""
	if resolver, ok := site.Directory.(directories.Resolver); ok {
		resolved, _ = resolver.Resolved() // it was opened, so there is no error
	}
	same := []any{fmt.Sprintf("%T", site.Directory), site.Directory, resolved}
	if x.first("directory", same) {
		if diagnoser, ok := directory.(directories.Diagnoser); ok {
			x.add(diagnoser.Diagnose(x.ctx)...)
		} else {
			x.add(tryDirectory(x.ctx, directory))
		}
	}
	if linked, ok := directory.(interface {
		DiagnoseLinked(ctx context.Context, providers []string) []directories.Finding
	}); ok && len(site.Providers) > 0 && x.first("linked", same, site.Providers) {
		x.add(linked.DiagnoseLinked(x.ctx, site.Providers)...)
	}
	if subject != nil && x.first("user", same, subject) {
		x.add(findUser(x.ctx, directory, subject))
	}
	revocations := cmp.Or(site.Revocations, new(revocation.Revocations))
	if x.first("revocations", same, revocations, site.Unwatched) {
		x.add(examineRevocations(x.ctx, directory, revocations, site.Unwatched)...)
	}
}

// unwatched returns the finding of `poll off`.
func unwatched(timeout time.Duration) directories.Finding {
	remedy := "remove `poll off`, unless polling would keep a database awake that should sleep"
	if timeout < wakes {
		remedy += fmt.Sprintf("; then add `timeout %s`, and connect_timeout=5 to the address: the request that wakes it waits for the answer that long, and else passes unchecked", wakes)
	}
	return directories.Finding{Level: directories.Note, Text: "with `poll off`, changes are noticed only when cached accounts expire", Remedy: remedy}
}

// wakes is how long a database that sleeps may take to answer.
const wakes = 5 * time.Second

// nobody is a subject that does not exist.
const nobody = "stale-session-doctor"

// openQuietly opens a directory that logs nothing: the findings have everything.
func openQuietly(module directories.Module) (directories.Directory, error) {
	config, ok := postgres.ConfigOf(module)
	if !ok {
		return module.OpenDirectory()
	}
	config.Logger = zap.NewNop
	directory, err := postgres.Open(config)
	if err != nil {
		return nil, err
	}
	return directory, nil
}

// tryDirectory looks up a user who does not exist, because only a missing user
// needs an answer that is proven.
func tryDirectory(ctx context.Context, directory directories.Directory) directories.Finding {
	if _, err := confirm(ctx, directory, []byte(nobody)); err != nil {
		return directories.Finding{Level: directories.Bad, Text: "users cannot be looked up in " + directory.String(), Remedy: err.Error()}
	}
	return directories.Finding{Level: directories.Good, Text: "users can be looked up in " + directory.String()}
}

// confirm looks a subject up as it is before a session ends.
func confirm(ctx context.Context, directory directories.Directory, subject []byte) (directories.Account, error) {
	answers, err := directory.Lookup(ctx, []directories.Query{{Subject: subject, Since: time.Now()}})
	switch {
	case err != nil:
		return directories.Account{}, err
	case len(answers) != 1:
		return directories.Account{}, errors.New("it did not answer the query")
	}
	return answers[0], answers[0].Failure
}

// findUser looks the user of a token up.
func findUser(ctx context.Context, directory directories.Directory, subject []byte) directories.Finding {
	account, err := confirm(ctx, directory, subject)
	switch {
	case err != nil && !account.Exists:
		return directories.Finding{Level: directories.Note, Text: "it is not known whether the user of the token exists: such a session passes unchecked", Remedy: err.Error()}
	case !account.Exists:
		return directories.Finding{Level: directories.Bad, Text: "the token names nobody in " + directory.String(), Remedy: "sign in again for a new token; if the session does work in the app, `database`, `users` or `subject` is wrong"}
	}
	return directories.Finding{Level: directories.Good, Text: "the token names a user in " + directory.String()}
}

// examineRevocations tests where revoked sessions are stored.
func examineRevocations(ctx context.Context, directory directories.Directory, options *revocation.Revocations, unwatched bool) []directories.Finding {
	if options.Redis != "" {
		return []directories.Finding{examineRedis(ctx, options)}
	}
	if d, ok := directory.(*postgres.Directory); ok && !unwatched {
		found, err := revocation.ExaminePostgres(ctx, d)
		var failure *directories.Error
		switch {
		case errors.As(err, &failure) && failure.Class != directories.Standby: // the findings of the directory have it
			return nil
		case err != nil:
			return []directories.Finding{{Level: directories.Note, Text: "nodes cannot share revocations", Remedy: err.Error()}}
		case found:
			return []directories.Finding{{Level: directories.Good, Text: "nodes share revocations through the table stale_session.revocations"}}
		}
	}
	return []directories.Finding{{Level: directories.Note, Text: "revoked sessions are kept in Caddy's storage: nodes share them if they share that", Remedy: "for several nodes, set `revocations`; or, with users in Postgres and without `poll off`, run `caddy stale-session install`"}}
}

// examineRedis tests the Redis through which nodes share revocations.
func examineRedis(ctx context.Context, options *revocation.Revocations) directories.Finding {
	store, err := provision.OpenRevocations(environment.Later("redis", options.Redis), options.Name, time.Duration(options.Life))
	if err != nil {
		return directories.Finding{Level: directories.Bad, Text: "the Redis of revocations is not configured", Remedy: err.Error()}
	}
	defer store.Close()
	if err := store.Examine(ctx); err != nil {
		return directories.Finding{Level: directories.Bad, Text: "nodes cannot share revocations through " + store.String(), Remedy: err.Error()}
	}
	return directories.Finding{Level: directories.Good, Text: "nodes can share revocations through " + store.String()}
}

// examineReader tests the secret and the keys. It returns the subject of a token;
// nil if there is none.
func examineReader(reader *session.Reader, token string) (found directories.Finding, subject []byte) {
	if token == "" {
		return directories.Finding{Level: directories.Good, Text: "a secret or a key is configured", Remedy: "to test whether it is the app's own, pass the value of a session cookie with --token"}, nil
	}
	if wrong := reader.Diagnose(token); wrong != "" {
		return directories.Finding{Level: directories.Bad, Text: "the token cannot be read", Remedy: wrong}, nil
	}
	s := new(session.Session)
	reader.ReadToken(token, s)
	return directories.Finding{Level: directories.Good, Text: "the token can be read, and has a user id"}, s.Tokens[0].Claims.Subject
}
