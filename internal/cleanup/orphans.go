package cleanup

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

const (
	// maxMissing is how many users whose sessions are orphaned a run looks at, and
	// maxEach how many rows of each it deletes.
	maxMissing, maxEach = 1000, 100
	// maxNamed is how many of them the log names.
	maxNamed = 5
	// together is how many missing users are looked up at once, with as many others.
	together = 250
)

// people are some of all users of whom something is true.
type people struct {
	some []person
	all  int
}

// person is a user of sessions, with the identities of the rows to delete.
type person struct {
	id   string
	rows []string
}

// missingSQL returns a query for the users who seem to be missing, with the
// identities and the number of their rows, and the number of such users.
func (s sessions) missingSQL() string {
	return fmt.Sprintf("select s.%[1]s::text, (array_agg(s.ctid::text))[1:%[2]d], count(*) over () from %[3]s s where %[4]s group by 1 limit %[5]d",
		s.user, maxEach, s.table, s.orphaned(), maxMissing)
}

// presentSQL returns a query for the users of sessions that have not expired and who
// seem to exist, and the number of such users.
func (s sessions) presentSQL() string {
	return fmt.Sprintf("select s.%[1]s::text, count(*) over () from %[2]s s where (%[3]s) is not true and %[4]s group by 1 limit %[5]d",
		s.user, s.table, s.expired(), s.userExists(), together)
}

// goneSQL returns the condition that a row s is that of one of the users $3, and has
// not expired, and that none of them is back. They are counted, because for the first
// of them the planner would read all users again for each row.
func (s sessions) goneSQL() string {
	return fmt.Sprintf("(%[1]s) is not true and s.%[2]s::text = any($3::text[]) and (select count(*) from %[3]s u join unnest($3::text[]) k(id) on lower(u.%[4]s::text) = lower(k.id)) = 0",
		s.expired(), s.user, s.users, pgx.Identifier{s.id}.Sanitize())
}

// cleanOrphaned deletes the rows whose user is proven to be gone, or counts them, and
// returns their number.
func (r *removal) cleanOrphaned(ctx context.Context) (n int64, err error) {
	if r.referenced || r.users == "" {
		return 0, nil
	}
	absent, present, err := r.people(ctx)
	warn := func(text string, fields ...zap.Field) {
		r.job.config.Logger().Warn(text, append(fields, zap.String("table", r.table), zap.Int("users_not_found", absent.all), zap.Int("users_found", present.all))...)
	}
	if err != nil {
		warn("sessions without a user are kept, because reading them failed", zap.Error(err))
		return 0, ctx.Err()
	}
	if absent.all > present.all {
		warn("most sessions have no user, so these are kept: check that the users table is the right one, and that the role can read all of its rows")
		return 0, nil
	}
	for left := absent.some; len(left) > 0 && !r.interrupted(); {
		some := left[:min(together, len(left))]
		left = left[len(some):]
		gone, found, err := r.prove(ctx, some, present.some[:min(len(some), len(present.some))])
		if err != nil {
			warn("sessions whose user is not found are kept, because it is not proven that the app finds none either", zap.Error(err))
		}
		if found < len(gone) {
			warn("the users of sessions vanish from the users table, so the rest is kept: something else empties it")
			return n, nil
		}
		removed, err := r.removeOrphans(ctx, gone)
		if n += removed; err != nil {
			return n, err
		}
	}
	return n, nil
}

// people returns users of sessions who seem to be missing, and others who seem to
// exist.
func (r *removal) people(ctx context.Context) (absent, present people, err error) {
	err = r.within(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, r.missingSQL(), r.job.now())
		if err != nil {
			return err
		}
		absent.some, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p person, err error) {
			return p, row.Scan(&p.id, &p.rows, &absent.all)
		})
		if err != nil || absent.all == 0 {
			return err
		}
		if rows, err = tx.Query(ctx, r.presentSQL(), r.job.now()); err != nil {
			return err
		}
		present.some, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p person, err error) {
			return p, row.Scan(&p.id, &present.all)
		})
		return err
	})
	return absent, present, reading(err)
}

// prove returns which of the users who seem to be missing are proven to be gone, and
// how many of the others are found by the same lookup.
func (r *removal) prove(ctx context.Context, absent []person, present []person) (gone []person, found int, err error) {
	ids := make([]string, 0, len(absent)+len(present))
	for _, p := range slices.Concat(absent, present) {
		ids = append(ids, p.id)
	}
	names, found, err := r.job.users.Gone(ctx, ids)
	for _, p := range absent {
		if slices.Contains(names, p.id) {
			gone = append(gone, p)
		}
	}
	return gone, found, err
}

// removeOrphans deletes the sessions of users who are gone, or counts them.
func (r *removal) removeOrphans(ctx context.Context, gone []person) (int64, error) {
	var ids, rows []string
	for _, p := range gone {
		ids, rows = append(ids, p.id), append(rows, p.rows...)
	}
	r.gone = append(r.gone, ids[:min(len(ids), maxNamed-len(r.gone))]...)
	if r.counts {
		return int64(len(rows)), nil
	}
	return r.remove(ctx, rows, r.goneSQL(), ids)
}
