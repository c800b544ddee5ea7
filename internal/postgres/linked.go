package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
)

// ByAccount implements identities.Users, by the table of linked accounts.
func (d *Directory) ByAccount(ctx context.Context, providers []string, sub string) ([]string, error) {
	if !storable(sub) {
		return nil, nil
	}
	return d.search(ctx, append([]string{sub}, providers...), func(ctx context.Context, conn *pgx.Conn, users *statement) (search, error) {
		l, err := findLinked(ctx, conn, users, d.config.Users.Accounts)
		if err != nil {
			return search{}, err
		}
		return l.search(users), nil
	})
}

// ByEmail implements identities.Users, by the users table.
func (d *Directory) ByEmail(ctx context.Context, email string) ([]string, error) {
	if !storable(email) {
		return nil, nil
	}
	return d.search(ctx, []string{email}, emailSearch)
}

// storable reports whether a text can be in a database.
func storable(text string) bool {
	return text != "" && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

// search is a query for the ids of users.
type search struct {
	sql   string      // its parameter is a text[]
	reads []searching // the tables
}

// searching is a table that a search reads.
type searching struct {
	relation
	what    string // for errors
	columns []string
}

// search returns the users that a search finds. None is certain: neither a standby that
// is behind, nor row-level security, nor a view can hide one.
func (d *Directory) search(ctx context.Context, values []string, prepare func(context.Context, *pgx.Conn, *statement) (search, error)) ([]string, error) {
	if d.config.Query != "" {
		return nil, schemaError("users cannot be found by what an identity provider calls them, because `query` replaces the users table: use `users`")
	}
	ctx, cancel := context.WithTimeout(ctx, deadline.Connect+deadline.Query)
	defer cancel()
	look := func(pool *pgxpool.Pool) (found []string, err error) {
		conn, err := d.lookups.acquire(ctx, pool)
		if err != nil {
			return nil, err
		}
		defer conn.Release()
		return d.searchOn(ctx, conn.Conn(), values, prepare)
	}
	pool := d.pool
	if d.primary != nil {
		pool = d.primary
	}
	found, err := look(pool)
	switch {
	case err == nil:
		return found, nil
	case broken(err) && classOf(err) == directories.Down: // the server was restarted, perhaps
		pool.Reset()
	case classOf(err) == directories.Schema: // a migration may have changed it
		d.lookups.statement.Store(nil)
	default:
		return nil, classify(err)
	}
	found, err = look(d.pool)
	return found, classify(err)
}

func (d *Directory) searchOn(ctx context.Context, conn *pgx.Conn, values []string, prepare func(context.Context, *pgx.Conn, *statement) (search, error)) ([]string, error) {
	users, err := d.ready(ctx, conn, d.lookups, statementAge)
	if err != nil {
		return nil, err
	}
	behind, err := isBehind(ctx, conn) // before the search
	if err != nil {
		return nil, err
	}
	s, err := prepare(ctx, conn, users)
	if err != nil {
		return nil, err
	}
	found, err := s.run(ctx, conn, values)
	switch {
	case err != nil:
		return nil, err
	case len(found) > 0:
		return found, nil
	case behind:
		return nil, &directories.Error{Class: directories.Standby, Text: "a replica that is behind finds no such user: add the primary to the address, as in host=standby,primary"}
	}
	return nil, s.doubt(ctx, conn)
}

// isBehind reports whether the server is a standby that has not replayed all that it
// should have received.
func isBehind(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var standby bool
	if err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil || !standby {
		return false, err
	}
	until, err := replayedUntil(ctx, conn)
	return until == nil, err
}

// run returns what the search finds.
func (s search) run(ctx context.Context, conn *pgx.Conn, values []string) (found []string, err error) {
	err = secured(ctx, conn, s.sql, values, func(rows *pgconn.ResultReader) error {
		for rows.NextRow() {
			found = append(found, string(rows.Values()[0]))
		}
		_, err := rows.Close()
		return err
	})
	if sqlState(err) != "42501" {
		return found, err
	}
	if err := s.denied(ctx, conn); err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, s.sql, values) // the policies of all tables show all rows
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// denied returns what the role lacks, or the policy that hides rows from it.
func (s search) denied(ctx context.Context, conn *pgx.Conn) error {
	for _, t := range s.reads {
		r, failed := readRights(ctx, conn, wanted{schema: t.schema, name: t.name, columns: t.columns, byColumn: true})
		if failed != nil {
			return failed
		}
		if r == nil {
			continue
		}
		if grants := r.missing(); len(grants) > 0 {
			return &directories.Error{Class: directories.Rights, Code: "42501", Text: fmt.Sprintf("the role may not read %s: run %s, as its owner", t.what, strings.Join(grants, "; "))}
		}
	}
	for _, t := range s.reads {
		hidden, failed := policyDoubt(ctx, conn, &statement{relation: t.relation, table: t.String()})
		if failed != nil {
			return failed
		}
		if hidden != nil {
			return hidden.err()
		}
	}
	return nil
}

// doubt returns why it proves nothing that a search has found nobody; nil if it does.
func (s search) doubt(ctx context.Context, conn *pgx.Conn) error {
	for _, t := range s.reads {
		if err := describeRelation(ctx, conn, &t.relation); err != nil {
			return err
		}
		switch {
		case t.lags != "":
			return &directories.Error{Class: directories.Unproven, Text: fmt.Sprintf("%s, %s, may be behind what the app sees: %s", t.what, t, t.lags)}
		case !t.named && !t.isTable():
			return &directories.Error{Class: directories.Unproven, Text: fmt.Sprintf("%s, %s, is not a table, and may omit rows: name the app's table, or this if it has all rows", t.what, t)}
		}
	}
	return nil
}

// linked is the app's table of linked accounts.
type linked struct {
	relation
	provider, account, user string // columns
	users                   string // the column of the users table that user refers to
	elsewhere               bool   // user refers to other tables
}

const (
	linkedWhat = "the table of linked accounts"
	usersWhat  = "the users table"
)

// search returns the search for the users of an account: the first value is its id, the
// others are names of providers.
func (l linked) search(users *statement) search {
	s := search{reads: []searching{{l.relation, linkedWhat, []string{l.provider, l.account, l.user}}}}
	from, id := l.String()+" a", "a."+quote(l.user)
	if users.users.ID != l.users { // sessions name users by another column
		from += fmt.Sprintf(" join %s u on u.%s::text = a.%s::text", users.table, quote(l.users), quote(l.user))
		id = column(users.users.ID)
		s.reads = append(s.reads, searching{users.relation, usersWhat, []string{l.users, users.users.ID}})
	}
	s.sql = fmt.Sprintf("select distinct %s::text from %s where a.%s::text = ($1::text[])[1] and a.%s::text = any(($1::text[])[2:]) and %[1]s is not null",
		id, from, quote(l.account), quote(l.provider))
	return s
}

// linkedColumns are the names of the columns of a table of linked accounts, without
// their case and underscores: of Auth.js, and of its version 3; of Better Auth.
var linkedColumns = []struct{ provider, account string }{
	{"provider", "provideraccountid"}, {"providerid", "provideraccountid"}, {"providerid", "accountid"},
}

// linkedSQL returns the relations of the schema $1, of which $2 is the only one if it is
// not empty, with those of their columns that may be those of a table of linked accounts,
// and the column that the user's refers to in the relation $3; and whether it refers to
// other tables, although $3 is one.
const linkedSQL = `select n.nspname, c.relname, c.oid, array_agg(a.attname::text order by a.attnum),
  coalesce((select min(f.attname::text) from pg_constraint k
    join pg_attribute u on u.attrelid = k.conrelid and u.attnum = k.conkey[1] and lower(replace(u.attname, '_', '')) = 'userid'
    join pg_attribute f on f.attrelid = k.confrelid and f.attnum = k.confkey[1]
    where k.conrelid = c.oid and k.contype = 'f' and k.confrelid = $3::bigint::oid and cardinality(k.conkey) = 1), 'id'),
  coalesce((select bool_and(k.confrelid <> t.oid) from pg_constraint k join pg_class t on t.oid = $3::bigint::oid and t.relkind in ('r', 'p')
    join pg_attribute u on u.attrelid = k.conrelid and u.attnum = k.conkey[1] and lower(replace(u.attname, '_', '')) = 'userid'
    where k.conrelid = c.oid and k.contype = 'f' and cardinality(k.conkey) = 1), false)
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition and n.nspname = $1::text and $2::text in ('', c.relname)
  and lower(replace(a.attname, '_', '')) = any('{provider,providerid,provideraccountid,accountid,userid}')
group by 1, 2, 3 order by 1, 2`

// findLinked finds the table of linked accounts: the one that is named, or in the schema
// of the users table the one that has the columns; of several, the one that is called
// account where the users table is called user.
func findLinked(ctx context.Context, conn *pgx.Conn, users *statement, named string) (linked, error) {
	schema, name := users.relation.schema, ""
	if named != "" {
		parts, err := splitName(named)
		if err != nil {
			return linked{}, err
		}
		if name = parts[len(parts)-1]; len(parts) == 2 {
			schema = parts[0]
		}
	}
	rows, err := conn.Query(ctx, linkedSQL, schema, name, int64(users.relation.oid))
	if err != nil {
		return linked{}, err
	}
	var all []linked
	var l linked
	var columns, others []string
	_, err = pgx.ForEachRow(rows, []any{&l.schema, &l.name, &l.oid, &columns, &l.users, &l.elsewhere}, func() error {
		switch l.named = named != ""; {
		case !l.assign(columns):
		case l.elsewhere && !l.named:
			others = append(others, l.String())
		default:
			all = append(all, l)
		}
		return nil
	})
	if err != nil {
		return linked{}, err
	}
	if i := slices.IndexFunc(all, func(l linked) bool { return l.name == accountsOf(users.relation.name) }); i >= 0 {
		all = all[i : i+1]
	}
	switch {
	case len(all) == 1:
		return all[0], nil
	case len(all) == 0 && named != "":
		return linked{}, schemaError("there is no table %s with the columns of linked accounts, such as provider, \"providerAccountId\" and \"userId\": `accounts` is wrong, or a migration is running", named)
	case len(all) == 0 && len(others) > 0:
		return linked{}, schemaError("the table of linked accounts %s refers to other users than %s: name the right table in `users`, or, if both have the same ids, add `accounts TABLE` to its block", strings.Join(others, ", "), users.table)
	case len(all) == 0:
		return linked{}, schemaError("no table of linked accounts was found: none in the schema %s has columns such as provider, \"providerAccountId\" and \"userId\": if it is elsewhere, add `accounts TABLE` to the block of `users`; if the app has none, its sessions may have the provider's sub as their subject: then `sub_is_user_id` takes the place of `provider`", quote(schema))
	}
	texts := make([]string, len(all))
	for i, l := range all {
		texts[i] = line("accounts", joinName(l.schema, l.name))
	}
	return linked{}, schemaError("several tables could be that of linked accounts: add one of these lines to the block of `users`: %s", strings.Join(texts, ", "))
}

// accountsOf returns how a table of linked accounts is called next to a users table.
func accountsOf(users string) string {
	return strings.NewReplacer("user", "account", "User", "Account", "USER", "ACCOUNT").Replace(users)
}

// assign sets the columns, if they are all there, each once.
func (l *linked) assign(columns []string) bool {
	byName := make(map[string]string)
	for _, name := range columns {
		plain := strings.ToLower(strings.ReplaceAll(name, "_", ""))
		if byName[plain] != "" {
			return false
		}
		byName[plain] = name
	}
	for _, names := range linkedColumns {
		l.provider, l.account, l.user = byName[names.provider], byName[names.account], byName["userid"]
		if l.provider != "" && l.account != "" && l.user != "" {
			return true
		}
	}
	return false
}

// emailSearch returns the search for users by their email address. A time of
// verification is not asked for: Auth.js sets none for those who sign in at a provider.
func emailSearch(ctx context.Context, conn *pgx.Conn, users *statement) (search, error) {
	l, err := readColumns(ctx, conn, users.relation)
	if err != nil {
		return search{}, err
	}
	email, verified := "", ""
	for name, t := range l.columns {
		switch {
		case strings.EqualFold(name, "email"):
			email = name
		case alike(name, "emailVerified") && t == "boolean":
			verified = name
		}
	}
	if email == "" {
		return search{}, schemaError("the users table %s has no column email", users.table)
	}
	s := search{reads: []searching{{users.relation, usersWhat, []string{users.users.ID, email}}}}
	s.sql = fmt.Sprintf("select distinct %s::text from %s u where lower(%s::text) = lower(($1::text[])[1]) and %[1]s is not null", column(users.users.ID), users.table, column(email))
	if verified != "" {
		s.reads[0].columns = append(s.reads[0].columns, verified)
		s.sql += " and " + column(verified)
	}
	return s, nil
}

// DiagnoseLinked checks that users can be found by the accounts of providers. It writes
// nothing.
func (d *Directory) DiagnoseLinked(ctx context.Context, providers []string) []directories.Finding {
	var found []directories.Finding
	err := d.Read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		users, err := d.ready(ctx, conn, d.lookups, 0)
		if err != nil {
			return err
		}
		l, err := findLinked(ctx, conn, users, d.config.Users.Accounts)
		if err != nil {
			return err
		}
		s := search{
			sql:   fmt.Sprintf("select distinct %s::text from %s a where $1::text[] is not null order by 1 limit 100", "a."+quote(l.provider), l),
			reads: l.search(users).reads,
		}
		linkedTo, err := s.run(ctx, conn, []string{})
		if err != nil {
			return err
		}
		found = append(found, good(fmt.Sprintf("accounts at identity providers are looked up in %s: provider %s, account %s, user %s", l, l.provider, l.account, l.user)))
		for _, provider := range providers {
			if !slices.Contains(linkedTo, provider) {
				found = append(found, note(fmt.Sprintf("nobody has linked an account of the provider %q", provider), "the providers there are: "+orNone(strings.Join(linkedTo, ", "))))
			}
		}
		return nil
	})
	if err != nil {
		return []directories.Finding{bad("users cannot be found by their accounts at an identity provider", classify(err).Error())}
	}
	return found
}

// Interface guard
var _ identities.Users = (*Directory)(nil)
