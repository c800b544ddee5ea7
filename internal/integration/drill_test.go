package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"go.uber.org/goleak"

	"github.com/seed-4adef13c/caddy-stale-session/internal/caddytest"
)

// TestADrillIsToldAlikeEverywhere resets a database while people use the app,
// and counts what the log, the metrics, the events and the status say of it.
func TestADrillIsToldAlikeEverywhere(t *testing.T) {
	const people = 40
	database := newDatabase(t)
	execute(t, database, fmt.Sprintf(`insert into "User" select 'p' || g from generate_series(1, %d) g`, people))
	o := newOperator(t)
	log, _ := caddytest.NewLog(t)
	config := strings.Replace(o.config("stale_session {", "	poll 20ms", "}", caddytest.NewApp(t).Proxy()), "{\n", "{\n\tlog {\n\t\toutput file "+log.File()+"\n\t}\n", 1)
	base := caddytest.Start(t, config)
	sessions := make([]string, people)
	for i := range sessions {
		sessions[i] = tokenOf(t, fmt.Sprintf("p%d", i+1), time.Hour)
		if status := ask(t, base, sessions[i]); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	caddytest.Eventually(t, "the database is watched", func() bool { return strings.Contains(o.do("GET", "status", nil, nil), `"watched":true`) })
	before := figures(t)
	var status struct {
		Counters struct {
			Reasons, Responses map[string]float64
		}
		Databases []struct{ Resets float64 }
	}
	o.do("GET", "status", nil, &status)
	reasons, responses := status.Counters.Reasons["user_not_found"], status.Counters.Responses["json"]

	execute(t, database, `truncate "User"`, `insert into "User" select 'q' || g from generate_series(1, 40) g`)
	caddytest.Eventually(t, "the reset is noticed", func() bool {
		o.do("GET", "status", nil, &status)
		return status.Databases[0].Resets > 0
	})
	var all sync.WaitGroup
	for _, session := range sessions {
		all.Go(func() {
			if status := ask(t, base, session); status != http.StatusUnauthorized {
				t.Errorf("status %d", status)
			}
		})
	}
	all.Wait()

	after := figures(t)
	o.do("GET", "status", nil, &status)
	detected := 0
	response, err := caddycmd.AdminAPIRequest(o.address, "GET", "/stale_session/events", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for stream := bufio.NewReader(response.Body); ; {
		line, err := stream.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "data: ") && strings.Contains(line, `"name":"detected"`) && strings.Contains(line, `"subject":"p`) {
			detected++
		}
		if line == ": the past ends here\n" {
			break
		}
	}
	stale := 0.0
	for key, value := range after {
		if strings.HasPrefix(key, "checks_total user_not_found") {
			stale += value - before[key]
		}
	}
	told := map[string]float64{
		"the log":                   float64(strings.Count(log.Text(t), `"stale session detected"`)),
		"the metric of checks":      stale,
		"the metric of responses":   after["responses_total json"] - before["responses_total json"],
		"the metric of resets":      people * (after["epochs_total"] - before["epochs_total"]),
		"the events":                float64(detected),
		"the reasons of the status": status.Counters.Reasons["user_not_found"] - reasons,
		"its responses":             status.Counters.Responses["json"] - responses,
	}
	for where, count := range told {
		if count != people {
			t.Errorf("%s: %v, want %d", where, count, people)
		}
	}
	t.Logf("told alike: %v", told)
}

// TestOperatingUnderLoadEndsNobodysSession lets everything happen at once that
// an operator can do, while people use the app.
func TestOperatingUnderLoadEndsNobodysSession(t *testing.T) {
	database := newDatabase(t)
	execute(t, database, `insert into "User" values ('revoked')`)
	// Each lock of Caddy's file storage has a goroutine that outlives it by five
	// seconds. Clients of the admin endpoint keep idle connections.
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
			goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
	})
	app := caddytest.NewApp(t)
	o := newOperator(t)
	port := freePort(t)
	config := func(n int) string {
		return strings.Replace(o.config("stale_session", fmt.Sprintf("header X-Reload %d", n), app.Proxy()), ":0 {", ":"+port+" {", 1)
	}
	first := config(0)
	if err := caddytest.Load(first); err != nil {
		t.Fatal(err)
	}
	base := "http://127.0.0.1:" + port
	live := tokenOf(t, "live", time.Hour)
	ctx, stop := context.WithCancel(t.Context())
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
	for range 4 {
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
		response, err := caddycmd.AdminAPIRequest(o.address, "POST", "/stale_session/"+path, nil, strings.NewReader(body))
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return true
	}
	repeat(func() bool { return post("flush", "") })
	repeat(func() bool {
		return post("revoke", `{"subject":"revoked"}`) && post("restore", `{"subject":"revoked"}`)
	})
	repeat(func() bool { return post("check", `{"subject":"live"}`) })
	for _, path := range []string{"/stale_session/status", "/metrics"} {
		repeat(func() bool {
			response, err := caddycmd.AdminAPIRequest(o.address, "GET", path, nil, nil)
			if err != nil {
				return false
			}
			_ = response.Body.Close()
			return true
		})
	}
	repeat(func() bool { // followers come and go
		response, err := caddycmd.AdminAPIRequest(o.address, "GET", "/stale_session/events", nil, nil)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		_, err = bufio.NewReader(response.Body).ReadString('\n')
		return err == nil
	})
	for n := range 5 {
		enough := done.Load() + 400
		caddytest.Eventually(t, "operators have done something", func() bool { return done.Load() > enough })
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
	if requests.Load() < 100 {
		t.Errorf("only %d requests were answered", requests.Load())
	}
	t.Logf("%d requests, %d operations", requests.Load(), done.Load())
}
