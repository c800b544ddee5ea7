package signals_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"testing"

	_ "github.com/seed-4adef13c/caddy-stale-session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/npm"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/ports"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/selfsigned"
)

const (
	// host is the name of the site: the provider sends logout tokens only to one that
	// looks like a name on the Internet.
	host      = "app.example.com"
	appSecret = "k3XrS0vJq8mZ5tYc1uWb7nHe2gLd9pQf4aVi6oRj"
)

// appSQL creates the tables of the pg adapter of Auth.js, as its documentation has them.
const appSQL = `create table verification_token (identifier text not null, expires timestamptz not null, token text not null, primary key (identifier, token));
create table accounts (id serial primary key, "userId" integer not null, type varchar(255) not null, provider varchar(255) not null, "providerAccountId" varchar(255) not null,
  refresh_token text, access_token text, expires_at bigint, id_token text, scope text, session_state text, token_type text);
create table sessions (id serial primary key, "userId" integer not null, expires timestamptz not null, "sessionToken" varchar(255) not null);
create table users (id serial primary key, name varchar(255), email varchar(255), "emailVerified" timestamptz, image text)`

// drill is a provider, and an app behind Caddy that people sign in to there.
type drill struct {
	site, provider, issuer string
	database               string // of the app
	server                 *pgtest.Server
	trusted                *x509.CertPool
}

// startDrill starts a drill, with options of backchannel_logout.
func startDrill(t *testing.T, options ...string) *drill {
	t.Helper()
	server := pgtest.StartFor(t)
	database, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Exec(t.Context(), database, appSQL); err != nil {
		t.Fatal(err)
	}
	users, err := server.NewDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := selfsigned.Write(t.TempDir(), host)
	if err != nil {
		t.Fatal(err)
	}
	port, err := ports.Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := &drill{site: "https://" + net.JoinHostPort(host, strconv.Itoa(port)), database: database, server: server, trusted: x509.NewCertPool()}
	d.trusted.AddCert(certificate.Certificate)
	if err := npm.Install(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	lines := npm.Start(t, "app", "SITE="+d.site, "DATABASE_URL="+server.DSN(database), "PROVIDER_DATABASE_URL="+server.DSN(users), "AUTH_SECRET="+appSecret,
		"NODE_EXTRA_CA_CERTS="+certificate.File, "NODE_ENV=production", "NO_COLOR=1", "BETTER_AUTH_SECRET=", "BETTER_AUTH_SECRETS=", "BETTER_AUTH_URL=", "AUTH_URL=", "NEXTAUTH_URL=")
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the app has ended: %v", err)
	}
	var address, client string
	if _, err := fmt.Sscan(line, &d.provider, &address, &d.issuer, &client); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	d.provider = "http://" + d.provider
	for _, variable := range []string{"NEXTAUTH_SECRET", "BETTER_AUTH_SECRET", "BETTER_AUTH_SECRETS", "AUTH_URL", "NEXTAUTH_URL", "BETTER_AUTH_URL", "STALE_SESSION_MODE"} {
		t.Setenv(variable, "")
	}
	t.Setenv("DATABASE_URL", server.DSN(database))
	t.Setenv("AUTH_SECRET", appSecret)
	site := append([]string{"stale_session /admin* {", "	backchannel_logout {", "		issuer " + d.issuer, "		audience " + client, "		jwks " + d.issuer + "/jwks", "		algorithms EdDSA"}, options...)
	site = append(site, "	}", "}", "reverse_proxy "+address)
	caddytest.Start(t, strings.Replace(caddytest.Site(site...), ":0 {\n", d.site+" {\n\ttls "+certificate.File+" "+certificate.KeyFile+"\n", 1))
	return d
}

// person is somebody at a browser.
type person struct {
	*drill
	t      *testing.T
	client *http.Client
}

func (d *drill) person(t *testing.T) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.Replace(address, host, "127.0.0.1", 1))
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: d.trusted}}
	t.Cleanup(transport.CloseIdleConnections)
	return &person{d, t, &http.Client{Jar: jar, Transport: transport, CheckRedirect: caddytest.Client.CheckRedirect}}
}

// do sends a request, with a body of a type if there is one.
func (p *person) do(method, address, contentType, body string) (*http.Response, string) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, address, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", contentType)
		request.Header.Set("Origin", request.URL.Scheme+"://"+request.URL.Host)
	}
	response, err := p.client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response, string(text)
}

// atProvider calls the provider's API.
func (p *person) atProvider(path, body string) {
	p.t.Helper()
	if response, text := p.do(http.MethodPost, p.provider+"/api/auth"+path, "application/json", body); response.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: status %d %s", path, response.StatusCode, text)
	}
}

// follow follows redirects from a response to the app's own pages.
func (p *person) follow(response *http.Response, text string) {
	p.t.Helper()
	for range 10 {
		if response.StatusCode/100 != 3 {
			p.t.Fatalf("%s: status %d %s", response.Request.URL.Path, response.StatusCode, text)
		}
		to, err := response.Location()
		if err != nil {
			p.t.Fatal(err)
		}
		if strings.HasPrefix(to.String(), p.site) && !strings.HasPrefix(to.Path, "/api/auth/callback/") {
			if strings.Contains(to.Path+to.RawQuery, "error") {
				p.t.Fatalf("the app leads to %s", to)
			}
			return
		}
		response, text = p.do(http.MethodGet, to.String(), "", "")
	}
	p.t.Fatal("too many redirects")
}

// signIn signs in to the app, at the provider.
func (p *person) signIn(name, email string, signUp bool) {
	p.t.Helper()
	if signUp {
		p.atProvider("/sign-up/email", fmt.Sprintf(`{"name":%q,"email":%q,"password":"a password"}`, name, email))
	} else {
		p.atProvider("/sign-in/email", fmt.Sprintf(`{"email":%q,"password":"a password"}`, email))
	}
	_, text := p.do(http.MethodGet, p.site+"/api/auth/csrf", "", "")
	var csrf struct{ CsrfToken string }
	if err := json.Unmarshal([]byte(text), &csrf); err != nil {
		p.t.Fatalf("%v: %s", err, text)
	}
	form := url.Values{"csrfToken": {csrf.CsrfToken}, "callbackUrl": {p.site + "/admin"}}
	p.follow(p.do(http.MethodPost, p.site+"/api/auth/signin/idp", "application/x-www-form-urlencoded", form.Encode()))
}

// subject is whose session the app sees on a guarded route; empty if the request is
// answered before.
func (p *person) subject() string {
	p.t.Helper()
	response, text := p.do(http.MethodGet, p.site+"/admin", "", "")
	var said struct{ Subject string }
	if response.StatusCode == http.StatusOK {
		if err := json.Unmarshal([]byte(text), &said); err != nil {
			p.t.Fatalf("%v: %s", err, text)
		}
	}
	return said.Subject
}

// TestWhoSignsOutAtARealProviderIsSignedOutOfTheApp signs people in to a real app at a real
// provider, Better Auth, and out there. Both number their users, in different orders: what
// the provider calls one is what the app calls another.
func TestWhoSignsOutAtARealProviderIsSignedOutOfTheApp(t *testing.T) {
	for name, c := range map[string]struct {
		options   []string
		elsewhere bool // the session in another browser ends too
	}{
		"of one session":          {nil, false},
		"of all by their account": {[]string{"		provider idp", "		ends user"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDrill(t, c.options...)
			ada, phone, eve := d.person(t), d.person(t), d.person(t)
			ada.atProvider("/sign-up/email", `{"name":"Ada","email":"ada@example.com","password":"a password"}`) // the second one there
			d.person(t).signIn("Bob", "bob@example.com", true)
			eve.signIn("Eve", "eve@example.com", true)
			ada.signIn("Ada", "ada@example.com", false)
			phone.signIn("Ada", "ada@example.com", false)
			subjects := map[*person]string{ada: ada.subject(), phone: phone.subject(), eve: eve.subject()}
			if subjects[ada] != "3" || subjects[eve] != "2" || subjects[phone] != "3" {
				t.Fatalf("signed in as %q, %q and %q", subjects[ada], subjects[phone], subjects[eve])
			}
			// The keys of the provider may not have been fetched when Caddy started.
			eventually.Holds(t, "Ada has signed out", func() bool {
				ada.signIn("Ada", "ada@example.com", false)
				ada.atProvider("/sign-out", "{}")
				return ada.subject() == ""
			})
			if got := phone.subject() == ""; got != c.elsewhere {
				t.Errorf("in another browser, the session has ended: %v", got)
			}
			if got := eve.subject(); got != subjects[eve] {
				t.Errorf("Eve is signed in as %q, want %q", got, subjects[eve])
			}
			ada.signIn("Ada", "ada@example.com", false)
			if got := ada.subject(); got != subjects[ada] {
				t.Errorf("after signing in again: %q, want %q", got, subjects[ada])
			}
		})
	}
}
