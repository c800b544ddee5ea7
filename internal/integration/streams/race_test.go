package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// writer is somebody who writes posts until refused.
type writer struct {
	id, cookie string
	deleted    atomic.Bool // or about to be
	written    atomic.Int64
	refused    atomic.Bool
}

// TestUsersAreDeletedWhileTheyWrite lets users write rows that refer to them
// through the module while they are deleted. The app fails at foreign keys;
// nobody gets to see that.
func TestUsersAreDeletedWhileTheyWrite(t *testing.T) {
	for _, triggers := range []bool{false, true} {
		t.Run(fmt.Sprintf("triggers %t", triggers), func(t *testing.T) { deleteWriters(t, triggers) })
	}
}

func deleteWriters(t *testing.T, triggers bool) {
	const users, steady = 60, 4 // the first are never deleted
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `create table posts (id bigserial primary key, author text not null references "User" on delete cascade, body text)`,
		fmt.Sprintf(`insert into "User" select 'w' || g from generate_series(0, %d) g`, users-1))
	if triggers {
		standardapp.InstallTriggers(t, standardapp.Server.DSN(database))
	}
	pool, err := pgxpool.New(t.Context(), standardapp.Server.DSN(database)+"&pool_max_conns=4")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	var violations atomic.Int64
	app := caddytest.NewApp(t)
	app.Answer(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		// The app trusts its cookie, of which the body repeats the subject.
		author, _, _ := strings.Cut(string(body), " ")
		_, err = pool.Exec(context.WithoutCancel(r.Context()), `insert into posts (author, body) values ($1, $2)`, author, string(body))
		var pg *pgconn.PgError
		switch {
		case errors.As(err, &pg) && pg.Code == "23503":
			violations.Add(1)
			fallthrough
		case err != nil:
			http.Error(w, "the app failed: "+err.Error(), http.StatusInternalServerError)
		default:
			fmt.Fprint(w, "written")
		}
	})
	base := caddytest.Start(t, caddytest.Site("stale_session {", "	cache {", "		ttl 1h", "	}", "	poll 50ms", "}", app.Proxy()))

	writers := make([]*writer, users)
	for i := range writers {
		id := fmt.Sprintf("w%d", i)
		writers[i] = &writer{id: id, cookie: standardapp.Session(t, id)}
	}
	var stop atomic.Bool
	var all sync.WaitGroup
	var requests atomic.Int64
	write := func(who *writer) {
		refused := who.refused.Load() // another lane's request may be on its way still when this one is
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, base+"/post", strings.NewReader(who.id+" "+strings.Repeat("x", 500)))
		if err != nil {
			t.Error(err)
			return
		}
		request.Header.Set("Cookie", who.cookie)
		response, err := caddytest.Client.Do(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		requests.Add(1)
		switch {
		case response.StatusCode == http.StatusOK:
			who.written.Add(1)
			if refused {
				t.Errorf("%s wrote after having been refused", who.id)
			}
		case response.StatusCode == http.StatusUnauthorized && who.deleted.Load():
			who.refused.Store(true)
		default:
			t.Errorf("%s, deleted %t: status %d, %s", who.id, who.deleted.Load(), response.StatusCode, body)
		}
	}
	for lane := range 8 {
		all.Go(func() {
			for i := lane; !stop.Load(); i += 8 {
				write(writers[i%users])
			}
		})
	}
	eventually.Holds(t, "everybody writes", func() bool {
		for _, who := range writers {
			if who.written.Load() < 2 {
				return false
			}
		}
		return true
	})
	for i := steady; i < users; {
		n := 1
		if i%7 == 0 {
			n = min(5, users-i) // some at a time
		}
		var gone []string
		for _, who := range writers[i : i+n] {
			who.deleted.Store(true) // from now on a refusal is right
			gone = append(gone, who.id)
		}
		standardapp.Execute(t, database, `delete from "User" where id in ('`+strings.Join(gone, "','")+`')`)
		before := requests.Load()
		eventually.Holds(t, "requests go on", func() bool { return requests.Load() > before+20 || t.Failed() })
		i += n
	}
	eventually.Holds(t, "all who were deleted are refused", func() bool {
		for _, who := range writers[steady:] {
			if !who.refused.Load() {
				return t.Failed()
			}
		}
		return true
	})
	stop.Store(true)
	all.Wait()
	if violations.Load() == 0 {
		t.Error("the app has not failed once, so nothing was shown")
	}
	for _, who := range writers[:steady] {
		var rows int64
		if err := pool.QueryRow(t.Context(), `select count(*) from posts where author = $1`, who.id).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		if who.refused.Load() || rows != who.written.Load() {
			t.Errorf("%s: %d rows, %d written, refused: %t", who.id, rows, who.written.Load(), who.refused.Load())
		}
	}
	t.Logf("%d requests, %d failures of the app at a foreign key, of which nobody got to see any", requests.Load(), violations.Load())
}
