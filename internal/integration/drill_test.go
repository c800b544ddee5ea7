package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// TestADrillIsToldAlikeEverywhere reseeds a database while people use the app,
// and counts what logs, metrics, events and status say of it. Some people are
// in the new seed too: they notice nothing.
func TestADrillIsToldAlikeEverywhere(t *testing.T) {
	const gone, stay = 40, 4
	database := standardapp.NewDatabase(t)
	seed := func(letter string) string {
		return fmt.Sprintf(`truncate "User"; insert into "User" select '%s' || g from generate_series(1, %d) g union all select 's' || g from generate_series(1, %d) g`, letter, gone, stay)
	}
	standardapp.Execute(t, database, seed("p"))
	o := caddytest.NewOperator(t)
	log, _ := caddytest.NewLog(t)
	config := strings.Replace(o.Config("log", "stale_session {", "	poll 20ms", "}", caddytest.NewApp(t).Proxy()), "{\n", "{\n\tlog {\n\t\toutput file "+log.File()+"\n\t}\n", 1)
	base := caddytest.Start(t, config)
	var before, after drilled
	before.read(t, o)
	old := past(t, o)

	// Each browser asks as long as it is signed in.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var people, staying sync.WaitGroup
	var requests atomic.Int64
	browse := func(all *sync.WaitGroup, subject string) {
		cookie := standardapp.TokenOf(t, subject, time.Hour)
		all.Go(func() {
			for ctx.Err() == nil {
				request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, base, http.NoBody)
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Cookie", cookie)
				response, err := caddytest.Client.Do(request)
				if err != nil {
					t.Errorf("%s: %v", subject, err)
					return
				}
				_ = response.Body.Close()
				if requests.Add(1); response.StatusCode == http.StatusOK {
					continue
				}
				if response.StatusCode != http.StatusUnauthorized || subject[0] != 'p' {
					t.Errorf("%s: status %d", subject, response.StatusCode)
				}
				return
			}
		})
	}
	for i := range gone {
		browse(&people, fmt.Sprintf("p%d", i+1))
	}
	for i := range stay {
		browse(&staying, fmt.Sprintf("s%d", i+1))
	}
	eventually.Holds(t, "the database is watched under load", func() bool {
		return requests.Load() > 1000 && strings.Contains(o.Do("GET", "status", nil, nil), `"watched":true`)
	})
	standardapp.Execute(t, database, seed("q")) // in one transaction
	people.Wait()
	noticed := requests.Load()
	eventually.Holds(t, "the app is used on", func() bool { return requests.Load() > noticed+100 })
	stop()
	staying.Wait()

	const access = `"stale_session_reason":"user_not_found"`
	eventually.Holds(t, "the access log is written", func() bool { return strings.Count(log.Text(t), access) >= gone })
	after.read(t, o)
	var detected, reset float64
	for _, event := range past(t, o) {
		switch {
		case slices.Contains(old, event):
		case strings.Contains(event, `"name":"detected"`) && strings.Contains(event, `"subject":"p`):
			detected++
		case strings.Contains(event, `"name":"database_reset"`):
			reset++
		}
	}
	table := "\n| source | stale | answered with 401 | resets |\n|---|---|---|---|\n"
	for _, told := range []struct {
		by                     string
		stale, answers, resets float64 // -1 where it does not tell
	}{
		{"browsers", gone, gone, -1},
		{"log", float64(strings.Count(log.Text(t), `"stale session detected"`)), -1, float64(strings.Count(log.Text(t), "users table was recreated"))},
		{"access log", float64(strings.Count(log.Text(t), access)), float64(strings.Count(log.Text(t), `"status":401`)), -1},
		{"metrics", after.metricStale - before.metricStale, after.metricAnswers - before.metricAnswers, after.metricResets - before.metricResets},
		{"events", detected, -1, reset},
		{"status", after.stale - before.stale, after.answers - before.answers, after.resets - before.resets},
	} {
		table += "| " + told.by
		for _, column := range []struct{ got, want float64 }{{told.stale, gone}, {told.answers, gone}, {told.resets, 1}} {
			switch {
			case column.got == -1:
				table += " | "
				continue
			case column.got != column.want:
				t.Errorf("the %s: %v, want %v", told.by, column.got, column.want)
			}
			table += fmt.Sprintf(" | %.0f", column.got)
		}
		table += " |\n"
	}
	t.Logf("%d requests of %d people:\n%s", requests.Load(), gone+stay, table)
}

// drilled is what a drill changes.
type drilled struct {
	metricStale, metricAnswers, metricResets float64
	stale, answers, resets                   float64
}

func (d *drilled) read(t *testing.T, o *caddytest.Operator) {
	t.Helper()
	all := figures(t)
	for key, value := range all {
		if strings.HasPrefix(key, "checks_total user_not_found") {
			d.metricStale += value
		}
	}
	d.metricAnswers, d.metricResets = all["responses_total json"], resets(all)
	var status struct {
		Counters  telemetry.Totals
		Databases []struct{ Resets float64 }
	}
	o.Do("GET", "status", nil, &status)
	d.stale, d.answers = status.Counters["checks_total"].By["reason"]["user_not_found"], status.Counters["responses_total"].By["kind"]["json"]
	for _, database := range status.Databases {
		d.resets += database.Resets
	}
}

// past returns the events that the feed still knows.
func past(t *testing.T, o *caddytest.Operator) []string {
	t.Helper()
	response, err := caddycmd.AdminAPIRequest(o.Address, "GET", "/stale_session/events", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var events []string
	for stream := bufio.NewReader(response.Body); ; {
		line, err := stream.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if data, is := strings.CutPrefix(line, "data: "); is {
			events = append(events, data)
		}
		if line == ": end of past events\n" {
			return events
		}
	}
}

// TestOperatingUnderLoadEndsNobodysSession lets everything happen at once that
// an operator can do, while people use the app.
func TestOperatingUnderLoadEndsNobodysSession(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `insert into "User" values ('revoked')`)
	// Each lock of Caddy's file storage has a goroutine that outlives it by five
	// seconds. Clients of the admin endpoint keep idle connections.
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
			goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
	})
	app := caddytest.NewApp(t)
	o := caddytest.NewOperator(t)
	port := caddytest.FreePort(t)
	config := func(n int) string {
		return strings.Replace(o.Config("stale_session", fmt.Sprintf("header X-Reload %d", n), app.Proxy()), ":0 {", ":"+port+" {", 1)
	}
	first := config(0)
	if err := caddytest.Load(first); err != nil {
		t.Fatal(err)
	}
	base := "http://127.0.0.1:" + port
	live := standardapp.TokenOf(t, "live", time.Hour)
	ctx, stop := context.WithCancel(t.Context())
	began := time.Now()
	var all sync.WaitGroup
	var requests, done atomic.Int64
	repeat := func(what func() bool) {
		all.Go(func() {
			for ctx.Err() == nil {
				if what() {
					done.Add(1)
				}
			}
		})
	}
	for range 8 {
		repeat(func() bool {
			request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, base, http.NoBody)
			if err != nil {
				t.Error(err)
				return false
			}
			request.Header.Set("Cookie", live)
			response, err := caddytest.Client.Do(request)
			if err != nil { // a reload breaks some
				return false
			}
			_ = response.Body.Close()
			if requests.Add(1); response.StatusCode != http.StatusOK {
				t.Errorf("status %d", response.StatusCode)
			}
			return false
		})
	}
	post := func(path, body string) bool {
		response, err := caddycmd.AdminAPIRequest(o.Address, "POST", "/stale_session/"+path, nil, strings.NewReader(body))
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return true
	}
	repeat(func() bool { return post("flush", "") })
	repeat(func() bool {
		return post("revoke", `{"subject":"revoked","force":true}`) && post("restore", `{"subject":"revoked"}`)
	})
	repeat(func() bool { return post("check", `{"subject":"live"}`) })
	for _, path := range []string{"/stale_session/status", "/metrics"} {
		repeat(func() bool {
			response, err := caddycmd.AdminAPIRequest(o.Address, "GET", path, nil, nil)
			if err != nil {
				return false
			}
			_ = response.Body.Close()
			return true
		})
	}
	repeat(func() bool { // followers come and go
		response, err := caddycmd.AdminAPIRequest(o.Address, "GET", "/stale_session/events", nil, nil)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		_, err = bufio.NewReader(response.Body).ReadString('\n')
		return err == nil
	})
	for n := range 5 {
		operations, asked := done.Load()+200, requests.Load()+400
		eventually.Holds(t, "much has happened", func() bool { return done.Load() > operations && requests.Load() > asked })
		if err := caddytest.Load(config(n + 1)); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	all.Wait()
	caddytest.Client.CloseIdleConnections()
	if err := errors.Join(caddytest.Load(caddytest.Site("respond ok")), caddy.Stop()); err != nil { // without the admin endpoint, which Stop lets be
		t.Error(err)
	}
	t.Logf("%d requests, %d operations in %s", requests.Load(), done.Load(), time.Since(began).Round(time.Millisecond))
}
