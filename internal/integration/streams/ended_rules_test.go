package streams

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	registry "github.com/seed-4adef13c/caddy-stale-session/internal/streams"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/faultproxy"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// open opens an event stream with a Cookie field, and returns it after its first event.
func (c client) open(t *testing.T, path, cookie string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Cookie", cookie)
	response, err := c.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if _, err := io.ReadFull(response.Body, make([]byte, len("data: first\n\n"))); err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err)
	}
	return response
}

// ends waits for a stream to end, however long it takes.
func ends(t *testing.T, stream *http.Response) {
	t.Helper()
	if n, err := io.Copy(io.Discard, stream.Body); err == nil {
		t.Errorf("it looks complete, after %d bytes", n)
	}
}

// goesOn fails unless the next event of an app arrives on streams.
func goesOn(t *testing.T, app *streamsApp, streams ...*http.Response) {
	t.Helper()
	event := fmt.Appendf(nil, "data: %d\n\n", app.send())
	for i, stream := range streams {
		var read []byte
		for !bytes.HasSuffix(read, event) {
			var next [1]byte
			if _, err := io.ReadFull(stream.Body, next[:]); err != nil {
				t.Errorf("stream %d has ended: %v", i, err)
				break
			}
			read = append(read, next[0])
		}
	}
}

// TestWhateverEndsARequestEndsAStream tells of every reason.
func TestWhateverEndsARequestEndsAStream(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `alter table "User" add column disabled boolean not null default false, add column "sessionsValidAfter" timestamptz, add column email text`,
		`insert into "User" (id, email) select 'u' || g, 'a@example.com' from generate_series(1, 10) g`)
	app := newStreamsApp(t, (*httptest.Server).Start)
	c := startFor(t, "h1", "stale_session {", "	users User {", "		disabled disabled", "		valid_after sessionsValidAfter", "		match email email", "	}", "}", "reverse_proxy "+app.Listener.Addr().String())
	token := func(claims map[string]any) string {
		claims["iat"] = time.Now().Add(-time.Hour).Unix()
		made, err := mint.V4(standardapp.Secret, claims)
		if err != nil {
			t.Fatal(err)
		}
		return standardapp.CookieName + "=" + made
	}
	live := c.open(t, "/events", token(map[string]any{"sub": "u10", "email": "a@example.com"}))
	for i, change := range []string{
		`delete from "User" where id = 'u1'`,
		`update "User" set disabled = true where id = 'u2'`,
		`update "User" set "sessionsValidAfter" = now() where id = 'u3'`,
		`update "User" set email = 'b@example.com' where id = 'u4'`,
	} {
		stream := c.open(t, "/events", token(map[string]any{"sub": fmt.Sprintf("u%d", i+1), "email": "a@example.com"}))
		standardapp.Execute(t, database, change)
		ends(t, stream)
	}
	both := c.open(t, "/events", token(map[string]any{"sub": "u7"})+"; "+token(map[string]any{"sub": "u8"})) // the app may read either
	standardapp.Execute(t, database, `delete from "User" where id = 'u8'`)
	ends(t, both)
	expiring := c.open(t, "/events", token(map[string]any{"sub": "u5", "exp": time.Now().Add(-12 * time.Second).Unix()})) // read for 15 seconds longer
	ends(t, expiring)
	revoked := c.open(t, "/events", token(map[string]any{"sub": "u6"}))
	list := provision.Lists()[0]
	if err := list.Revoke(t.Context(), revocation.Revocation{Subject: "u6", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	ends(t, revoked)
	if err := list.Restore(t.Context(), "u6", time.Now()); err != nil {
		t.Fatal(err)
	}
	restored := c.open(t, "/events", token(map[string]any{"sub": "u6"}))
	standardapp.Execute(t, database, `update "User" set email = email`, `delete from "User" where id = 'u9'`)
	gone := c.stream(t, "events", "u9")
	<-gone
	goesOn(t, app, live, restored)
}

// TestALogoutOfOneSessionEndsItsStreams revokes by the id of a session.
func TestALogoutOfOneSessionEndsItsStreams(t *testing.T) {
	standardapp.NewDatabase(t)
	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	app := newStreamsApp(t, (*httptest.Server).Start)
	c := startFor(t, "h1", "stale_session {", "	backchannel_logout {", "		issuer https://id.example", "		audience app", "		jwks "+keys, "	}", "}", "reverse_proxy "+app.Listener.Addr().String())
	token := func(sid string) string {
		made, err := mint.V4(standardapp.Secret, map[string]any{"sub": "live", "sid": sid})
		if err != nil {
			t.Fatal(err)
		}
		return standardapp.CookieName + "=" + made
	}
	ended, other := c.open(t, "/events", token("a")), c.open(t, "/events", token("b"))
	for _, list := range provision.Lists() {
		if err := list.Revoke(t.Context(), revocation.Revocation{Session: "a", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	ends(t, ended)
	goesOn(t, app, other)
}

// TestWhatEndsNoRequestEndsNoStream opens streams on routes of one site, of which one
// ends sessions.
func TestWhatEndsNoRequestEndsNoStream(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `insert into "User" values ('gone')`)
	standardapp.InstallTriggers(t, standardapp.Server.DSN(database))
	app := newStreamsApp(t, (*httptest.Server).Start)
	proxy := "reverse_proxy " + app.Listener.Addr().String()
	c := startFor(t, "h1",
		"handle_path /observe/* {", "	stale_session {", "		mode observe", "	}", proxy, "}",
		"handle_path /off/* {", "	stale_session {", "		streams off", "	}", proxy, "}",
		"handle_path /passed/* {", "	stale_session /x {", "		scrub off", "	}", proxy, "}",
		"handle_path /stripped/* {", "	stale_session /x", proxy, "}",
		"handle {", "	stale_session", proxy, "}")
	gone := standardapp.Session(t, "gone")
	observed, left, passed := c.open(t, "/observe/events", gone), c.open(t, "/off/events", gone), c.open(t, "/passed/events", gone)
	stripped, guarded := c.open(t, "/stripped/events", gone), c.open(t, "/events", gone)
	standardapp.Execute(t, database, `delete from "User" where id = 'gone'`)
	ends(t, guarded)
	ends(t, stripped)
	goesOn(t, app, observed, left, passed)
}

// TestTheBrakeHoldsStreams until it goes off, those too that were opened meanwhile.
func TestTheBrakeHoldsStreams(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `insert into "User" select 'u' || g from generate_series(1, 12) g`)
	app := newStreamsApp(t, (*httptest.Server).Start)
	c := startFor(t, "h1", "stale_session {", "	brake 50%", "}", "reverse_proxy "+app.Listener.Addr().String())
	for i := range 24 {
		caddytest.Ask(t, c.base+"/x", standardapp.Session(t, fmt.Sprintf("u%d", i%12+1)))
	}
	before := c.open(t, "/events", standardapp.Session(t, "u1"))
	standardapp.Execute(t, database, `delete from "User" where id like 'u%'`)
	eventually.Holds(t, "the brake is on", provision.Engines()[0].Braking)
	during := c.open(t, "/events", standardapp.Session(t, "u2"))
	registry.Open.Changed(provision.Engines()[0].String(), nil)
	if status := caddytest.Ask(t, c.base+"/x", standardapp.Session(t, "u3")); status != http.StatusOK {
		t.Errorf("a request: status %d", status)
	}
	goesOn(t, app, before, during)
	standardapp.Execute(t, database, `truncate "User"`)
	for _, stream := range []*http.Response{before, during} {
		if _, err := stream.Body.Read(make([]byte, 1)); err == nil {
			t.Error("it goes on after the reset")
		}
	}
}

// TestNoFaultEndsAStream has everything go wrong that ends no session, and then a user
// be deleted, who has a stream of the same age.
func TestNoFaultEndsAStream(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `insert into "User" values ('gone')`)
	cut := faultproxy.New(t, standardapp.Server.Address())
	standardapp.Environment(t, "postgres://postgres@"+cut.Address+"/"+database+"?sslmode=disable")
	app := newStreamsApp(t, (*httptest.Server).Start)
	c := startFor(t, "h1", "stale_session", "reverse_proxy "+app.Listener.Addr().String())
	live, gone := c.open(t, "/events", standardapp.Session(t, "live")), c.open(t, "/events", standardapp.Session(t, "gone"))
	name := provision.Engines()[0].String()
	engine := provision.Engines()[0]
	all := func() { registry.Open.Changed(name, nil) } // as after a restart of the directory
	for _, fault := range []func(){
		func() { standardapp.Execute(t, database, `update "User" set id = id`) },
		func() { standardapp.Execute(t, database, `begin; delete from "User"; rollback`) },
		func() {
			standardapp.Execute(t, database, `begin; delete from "User"; insert into "User" values ('live'), ('gone'); commit`)
		},
		func() {
			standardapp.Execute(t, database, `alter table "User" rename to "Users"`)
			all()
			caddytest.Ask(t, c.base+"/x", standardapp.Session(t, "live"))
		},
		func() { standardapp.Execute(t, database, `alter table "Users" rename to "User"`) },
		func() { standardapp.Execute(t, database, `revoke all on "User" from public`) },
		func() {
			standardapp.Execute(t, database, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'caddy-stale-session'`)
		},
		func() { engine.Flush() },
		func() { cut.Refuse(); all() },
		func() { cut.Listen(); all() },
	} {
		fault()
		eventually.Holds(t, "a request passes", func() bool { return caddytest.Ask(t, c.base+"/x", standardapp.Session(t, "live")) == http.StatusOK })
		goesOn(t, app, live, gone)
		if t.Failed() {
			return
		}
	}
	standardapp.Execute(t, database, `delete from "User" where id = 'gone'`)
	if _, err := gone.Body.Read(make([]byte, 1)); err == nil {
		t.Error("it goes on")
	}
	goesOn(t, app, live)
}

// TestTheRequestThatDeletesItsUserGetsItsAnswer deletes the user in the app, which
// answers long after that was noticed, and goes on sending.
func TestTheRequestThatDeletesItsUserGetsItsAnswer(t *testing.T) {
	for name, guard := range map[string]string{"guarded": "stale_session", "stripped": "stale_session /admin"} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			standardapp.Execute(t, database, `insert into "User" values ('gone')`)
			standardapp.InstallTriggers(t, standardapp.Server.DSN(database))
			app := newStreamsApp(t, (*httptest.Server).Start)
			noticed := make(chan struct{})
			var arrived sync.WaitGroup // one that came after the deletion would be refused
			arrived.Add(2)
			events := app.Config.Handler
			app.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost {
					events.ServeHTTP(w, r)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				arrived.Done()
				arrived.Wait()
				standardapp.Execute(t, database, `delete from "User" where id = 'gone'`)
				<-noticed
				if err := r.Context().Err(); err != nil {
					t.Errorf("the app's request: %v", err)
				}
				http.SetCookie(w, &http.Cookie{Name: "bye", Value: "1"})
				_, _ = io.WriteString(w, "good-bye")
				_ = http.NewResponseController(w).Flush()
				if r.URL.Path == "/endless" {
					<-r.Context().Done()
				}
			})
			c := startFor(t, "h1", guard, "reverse_proxy "+app.Listener.Addr().String())
			stream := c.open(t, "/events", standardapp.Session(t, "gone"))
			post := func(path string) *http.Response {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.base+path, strings.NewReader("yes"))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Cookie", standardapp.Session(t, "gone"))
				response, err := c.http.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = response.Body.Close() })
				return response
			}
			answers := make(chan *http.Response, 2)
			go func() { answers <- post("/endless") }()
			go func() { answers <- post("/delete") }()
			ends(t, stream)
			close(noticed)
			for range 2 {
				answer := <-answers
				text, err := io.ReadAll(answer.Body)
				if answer.StatusCode != http.StatusOK || string(text) != "good-bye" || len(answer.Cookies()) == 0 {
					t.Errorf("status %d, %q, %v", answer.StatusCode, text, answer.Cookies())
				}
				if endless := answer.Request.URL.Path == "/endless"; (err != nil) != endless {
					t.Errorf("%s: %v", answer.Request.URL.Path, err)
				}
			}
		})
	}
}

// TestAConnectionIsOfUseAfterAnEndedRequest sends the requests of two people on one
// connection, as a balancer does.
func TestAConnectionIsOfUseAfterAnEndedRequest(t *testing.T) {
	database := standardapp.NewDatabase(t)
	app := newStreamsApp(t, (*httptest.Server).Start)
	c := startFor(t, "h1", "stale_session", "reverse_proxy "+app.Listener.Addr().String())
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	send := func(request, subject string) {
		if _, err := io.WriteString(conn, strings.Replace(request, "\r\n", "\r\nHost: x\r\nCookie: "+standardapp.Session(t, subject)+"\r\n", 1)); err != nil {
			t.Fatal(err)
		}
	}
	receive := func() *http.Response {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response
	}
	for range 3 {
		standardapp.Execute(t, database, `insert into "User" values ('gone')`)
		send("GET /poll HTTP/1.1\r\n\r\n", "gone")
		<-app.arrived
		standardapp.Execute(t, database, `delete from "User" where id = 'gone'`)
		if response := receive(); response.StatusCode != http.StatusUnauthorized || response.Close {
			t.Errorf("a poll: status %d, closes %t", response.StatusCode, response.Close)
		}
		for range 3 {
			send("GET /x HTTP/1.1\r\n\r\n", "live")
			if response := receive(); response.StatusCode != http.StatusOK {
				t.Errorf("the next: status %d", response.StatusCode)
			}
		}
	}
	standardapp.Execute(t, database, `insert into "User" values ('gone')`)
	send("POST /stalled-upload HTTP/1.1\r\nContent-Length: 100\r\n\r\na part", "gone")
	<-app.arrived
	standardapp.Execute(t, database, `delete from "User" where id = 'gone'`)
	if response := receive(); response.StatusCode != http.StatusUnauthorized || !response.Close {
		t.Errorf("an upload: status %d, closes %t", response.StatusCode, response.Close)
	}
	if _, err := reader.ReadByte(); err == nil {
		t.Error("the connection goes on in the middle of an upload")
	}
}

// TestAStreamOutlivesAReload and can be ended afterwards.
func TestAStreamOutlivesAReload(t *testing.T) {
	for name, c := range map[string]struct {
		then  []string
		stays bool // the streams do
	}{
		"with the same configuration":    {[]string{"header X-Reloaded yes", "stale_session"}, false},
		"with other options":             {[]string{"stale_session {", "	cache {", "		size 5000", "	}", "}"}, false},
		"without the module":             {[]string{"header X-Reloaded yes"}, true},
		"to a mode that ends no session": {[]string{"stale_session {", "	mode observe", "}"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			standardapp.Execute(t, database, `insert into "User" values ('gone')`)
			app := newStreamsApp(t, (*httptest.Server).Start)
			proxy := "reverse_proxy " + app.Listener.Addr().String()
			before := startFor(t, "h1", "stale_session", proxy)
			gone, live := before.open(t, "/events", standardapp.Session(t, "gone")), before.open(t, "/events", standardapp.Session(t, "live"))
			site := caddytest.Site(append(c.then, proxy)...)
			if err := caddytest.Load(site); err != nil {
				t.Fatal(err)
			}
			after := client{caddytest.Address(t), before.http}
			_ = after.open(t, "/events", standardapp.Session(t, "live"))
			standardapp.Execute(t, database, `delete from "User" where id = 'gone'`)
			stay := []*http.Response{live}
			if c.stays {
				stay = append(stay, gone)
			} else {
				ends(t, gone)
			}
			goesOn(t, app, stay...)
			if err := caddytest.Load(caddytest.Site(proxy)); err != nil {
				t.Fatal(err)
			}
			eventually.Holds(t, "no connection is left", func() bool { return len(standardapp.Backends(t, database)) == 0 })
			goesOn(t, app, live)
		})
	}
}

// TestAStreamOfAReplacedConfigurationEndsWithABrake whatever has changed: to an engine
// that was opened for it alone, nobody's session was live before.
func TestAStreamOfAReplacedConfigurationEndsWithABrake(t *testing.T) {
	for name, then := range map[string][]string{
		"by the engine of other options":       {"	brake 60%"},
		"by the engine of another directory":   {"	brake 60%", "	users {", "		id id", "	}"},
		"by the engine of one without a brake": {"	timeout 59s"},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			standardapp.Execute(t, database, `insert into "User" values ('gone')`)
			app := newStreamsApp(t, (*httptest.Server).Start)
			proxy := "reverse_proxy " + app.Listener.Addr().String()
			before := startFor(t, "h1", "stale_session {", "	brake 50%", "}", proxy)
			gone, live := before.open(t, "/events", standardapp.Session(t, "gone")), before.open(t, "/events", standardapp.Session(t, "live"))
			if err := caddytest.Load(caddytest.Site(slices.Concat([]string{"stale_session {"}, then, []string{"}", proxy})...)); err != nil {
				t.Fatal(err)
			}
			after := client{caddytest.Address(t), before.http}
			_ = after.open(t, "/events", standardapp.Session(t, "live"))
			standardapp.Execute(t, database, `delete from "User" where id = 'gone'`)
			ends(t, gone)
			goesOn(t, app, live)
		})
	}
}
