package signals

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
)

const (
	endpointURL  = "https://app.example/api/auth/global-token-revocation"
	secretOfOurs = "0123456789abcdef0123456789abcdef"
)

// revocation returns the options of an endpoint for a provider and for scripts.
func (p *provider) revocation() TokenRevocation {
	return TokenRevocation{
		Source: Source{Issuer: issuer, JWKS: p.file, Accounts: identities.Accounts{Provider: []string{"keycloak"}}},
		Secret: secretOfOurs, EmailDomains: identities.Domains{"example.com"},
	}
}

func revoke(t testing.TB, o TokenRevocation) *revoker {
	t.Helper()
	e, err := Open(&o, environment.New(), Defaults{AuthPath: "/api/auth", Origin: "https://app.example"}, keys{})
	if err != nil {
		t.Fatal(err)
	}
	r := e.(*revoker)
	r.now = func() time.Time { return now }
	return r
}

// grant returns the claims of a token that Okta makes.
func grant() object {
	return object{"iss": issuer, "aud": endpointURL, "sub": "client", "jti": "j1", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
}

const typeRevocation = "global-token-revocation+jwt"

// ask has an endpoint serve a request.
func ask(e Endpoint, s *site, credentials string, body any) (*httptest.ResponseRecorder, Result) {
	text, isText := body.(string)
	if !isText {
		encoded, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		text = string(encoded)
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text))
	if credentials != "" {
		r.Header.Set("Authorization", "Bearer "+credentials)
	}
	w := httptest.NewRecorder()
	return w, e.Serve(w, r, s.acquire)
}

func TestWhomARevocationNames(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	address := func(email string) object { return object{"format": "email", "email": email} }
	opaque := func(id string) object { return object{"format": "opaque", "id": id} }
	const provider, script = "the provider", "a script"
	for name, c := range map[string]struct {
		by     string
		body   any
		status int
		ends   string
	}{
		"an account":                         {provider, object{"sub_id": ada}, 204, "user ada"},
		"an account, by draft 01":            {provider, object{"subject": ada}, 204, "user ada"},
		"an account, with more members":      {provider, object{"sub_id": ada, "x": 1}, 204, "user ada"},
		"an account that nobody has":         {provider, object{"sub_id": with(ada, "sub", "s-eve")}, 404, ""},
		"an account elsewhere":               {provider, object{"sub_id": with(ada, "iss", "https://other.example")}, 403, ""},
		"an address":                         {provider, object{"sub_id": address("ADA@example.com")}, 204, "user ada"},
		"an address of another domain":       {provider, object{"sub_id": address("bob@other.example")}, 403, ""},
		"an id of the app's":                 {provider, object{"sub_id": opaque("ada")}, 403, ""},
		"a phone number":                     {provider, object{"sub_id": object{"format": "phone_number", "phone_number": "+1"}}, 400, ""},
		"nobody":                             {provider, object{}, 400, ""},
		"two":                                {provider, object{"sub_id": ada, "subject": ada}, 400, ""},
		"an account without a sub":           {provider, object{"sub_id": with(ada, "sub", nil)}, 400, ""},
		"one with a NUL byte":                {provider, object{"sub_id": with(ada, "sub", "\x00")}, 400, ""},
		"a list":                             {provider, `[]`, 400, ""},
		"no JSON":                            {provider, `{`, 400, ""},
		"too much":                           {provider, `{"x":"` + strings.Repeat("x", maxBody) + `"}`, 413, ""},
		"a script, an account":               {script, object{"sub_id": ada}, 204, "user ada"},
		"a script, an account elsewhere":     {script, object{"sub_id": with(ada, "iss", "https://other.example")}, 403, ""},
		"a script, any address":              {script, object{"sub_id": address("bob@other.example")}, 204, "user bob"},
		"a script, an id of the app's":       {script, object{"sub_id": opaque("ada")}, 204, "user ada"},
		"a script, an id that nobody has":    {script, object{"sub_id": opaque("eve")}, 404, ""},
		"a script, an address nobody has":    {script, object{"sub_id": address("x@other.example")}, 404, ""},
		"a script, an account nobody has":    {script, object{"sub_id": with(ada, "sub", "x")}, 404, ""},
		"a script, an id that is very long":  {script, object{"sub_id": opaque(strings.Repeat("x", 2000))}, 400, ""},
		"a script, what has another format":  {script, object{"sub_id": object{"format": "uri", "uri": "x:y"}}, 400, ""},
		"a script, what has no format":       {script, object{"sub_id": object{"id": "ada"}}, 400, ""},
		"a script, what is not an object":    {script, object{"sub_id": "ada"}, 400, ""},
		"a script, a subject that is a list": {script, object{"subject": []any{"ada"}}, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, s := revoke(t, p.revocation()), newSite(t)
			credentials := secretOfOurs
			if c.by == provider {
				credentials = p.sign(t, typeRevocation, grant())
			}
			w, result := ask(e, s, credentials, c.body)
			if w.Code != c.status || s.ended() != c.ends || (result.Err == nil) != (c.status == 204) || result.NotFound != (c.status == 404) {
				t.Errorf("status %d %s, ended %q: %+v", w.Code, w.Body, s.ended(), result)
			}
			if w.Header().Get("Cache-Control") != "no-store" || c.status == 204 && w.Body.Len() > 0 {
				t.Errorf("header %v, body %s", w.Header(), w.Body)
			}
		})
	}
}

func TestWhoMayRevoke(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	token := func(name string, value any) string { return p.sign(t, typeRevocation, with(grant(), name, value)) }
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims(grant())).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		credentials string
		status      int
	}{
		"the provider":                           {p.sign(t, typeRevocation, grant()), 204},
		"the provider, among several audiences":  {token("aud", []any{"x", endpointURL}), 204},
		"the provider, without nbf and iat":      {p.sign(t, typeRevocation, with(with(grant(), "nbf", nil), "iat", nil)), 204},
		"a script":                               {secretOfOurs, 204},
		"nobody":                                 {"", 401},
		"another secret":                         {secretOfOurs + "0", 401},
		"half of the secret":                     {secretOfOurs[:16], 401},
		"an ID token":                            {p.sign(t, "JWT", grant()), 401},
		"an access token":                        {p.sign(t, "at+jwt", grant()), 401},
		"a logout token":                         {p.sign(t, "logout+jwt", grant()), 401},
		"a SET":                                  {p.sign(t, "secevent+jwt", grant()), 401},
		"a token of no type":                     {p.sign(t, "", grant()), 401},
		"a token for another endpoint":           {token("aud", "https://other.example/api/auth/global-token-revocation"), 401},
		"a token for the app":                    {token("aud", "https://app.example"), 401},
		"a token of another issuer":              {token("iss", "https://other.example"), 401},
		"a token that has expired":               {token("exp", now.Add(-2*time.Minute).Unix()), 401},
		"a token that never expires":             {token("exp", nil), 401},
		"a token that lasts for a day":           {token("exp", now.Add(24*time.Hour).Unix()), 401},
		"a token of tomorrow":                    {token("nbf", now.Add(24*time.Hour).Unix()), 401},
		"a token that was made tomorrow":         {token("iat", now.Add(24*time.Hour).Unix()), 401},
		"a token without jti":                    {token("jti", nil), 401},
		"a token of another key":                 {sign(t, jwt.SigningMethodRS256, p.other, "r", typeRevocation, grant()), 401},
		"a token of another algorithm":           {sign(t, jwt.SigningMethodES256, p.ec, "e", typeRevocation, grant()), 401},
		"a token that is signed with our secret": {sign(t, jwt.SigningMethodHS256, []byte(secretOfOurs), "r", typeRevocation, grant()), 401},
		"a token that is not signed":             {unsigned, 401},
		"a token that is endless":                {strings.Repeat("x", maxBody+1), 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			w, result := ask(revoke(t, p.revocation()), s, c.credentials, object{"sub_id": ada})
			if w.Code != c.status || (s.ended() != "") != (c.status == 204) || (result.Err != nil) != result.Refused {
				t.Errorf("status %d %s, ended %q", w.Code, w.Body, s.ended())
			}
			if challenge := w.Header().Get("WWW-Authenticate"); strings.HasPrefix(challenge, "Bearer") != (c.status == 401) {
				t.Errorf("challenge %q", challenge)
			}
		})
	}
	options := p.revocation()
	options.Secret = ""
	s := newSite(t)
	if w, _ := ask(revoke(t, options), s, "x", object{"sub_id": ada}); w.Code != 401 {
		t.Errorf("without a secret: status %d", w.Code)
	}
	options = TokenRevocation{Secret: secretOfOurs}
	if w, _ := ask(revoke(t, options), s, p.sign(t, typeRevocation, grant()), object{"sub_id": ada}); w.Code != 401 || s.ended() != "" {
		t.Errorf("without a provider: status %d", w.Code)
	}
}

// TestATokenOfARevocationCountsOnce: whoever gets hold of one revokes nobody else.
func TestATokenOfARevocationCountsOnce(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	e, s := revoke(t, p.revocation()), newSite(t)
	s.users = people{"keycloak s-ada": {"ada"}, "keycloak s-bob": {"bob"}}
	token := p.sign(t, typeRevocation, grant())
	ask(e, s, token, object{"sub_id": ada})
	first, _ := s.sessions.Find([]byte("ada"))
	e.now = func() time.Time { return now.Add(time.Minute) }
	if w, result := ask(e, s, token, object{"sub_id": ada}); w.Code != 204 || !result.Again {
		t.Errorf("repeated: status %d", w.Code)
	}
	if w, _ := ask(e, s, token, object{"sub_id": with(ada, "sub", "s-bob")}); w.Code != 401 || s.ended() != "user ada" {
		t.Errorf("for another user: status %d, ended %q", w.Code, s.ended())
	}
	if again, _ := s.sessions.Find([]byte("ada")); !again.Equal(first) {
		t.Error("a token that is repeated ends later sessions")
	}
}

func TestRevocationsThatFailAreSentAgain(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for name, broken := range map[string]func(*site){
		"the database is down": func(s *site) { s.users = nil },
		"the store is full":    func(s *site) { s.files.full.Store(true) },
	} {
		for _, named := range []object{ada, {"format": "email", "email": "ada@example.com"}, {"format": "opaque", "id": "ada"}} {
			e, s := revoke(t, p.revocation()), newSite(t)
			broken(s)
			if w, result := ask(e, s, secretOfOurs, object{"sub_id": named}); w.Code != 503 || w.Header().Get("Retry-After") == "" || result.Refused || result.Err == nil {
				t.Errorf("%s: status %d %s", name, w.Code, w.Body)
			}
			s.users = everybody
			s.files.full.Store(false)
			if w, _ := ask(e, s, secretOfOurs, object{"sub_id": named}); w.Code != 204 || s.ended() != "user ada" {
				t.Errorf("%s, afterwards: status %d, ended %q", name, w.Code, s.ended())
			}
		}
	}
	options := p.revocation()
	options.JWKS = "http://127.0.0.1:1/keys"
	if w, _ := ask(revoke(t, options), newSite(t), p.sign(t, typeRevocation, grant()), object{"sub_id": ada}); w.Code != 503 {
		t.Errorf("the keys are not known: status %d", w.Code)
	}
	w := httptest.NewRecorder()
	revoke(t, p.revocation()).Serve(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), newSite(t).acquire)
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost {
		t.Errorf("a GET: status %d", w.Code)
	}
}

// TestWhoIsNotAllowedHoldsNothing sends requests whose bodies never arrive.
func TestWhoIsNotAllowedHoldsNothing(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	e := revoke(t, p.revocation())
	options := p.shared()
	options.Authorization = secretOfOurs
	for _, endpoint := range []Endpoint{e, receive(t, options, true)} {
		body, writer := io.Pipe()
		r := httptest.NewRequest(http.MethodPost, "/", body)
		w := httptest.NewRecorder()
		result := endpoint.Serve(w, r, func() (Target, func()) {
			t.Error("it holds the database")
			return Target{}, func() {}
		})
		if !result.Refused || w.Code != 401 && w.Code != 400 {
			t.Errorf("%s: status %d", endpoint.Kind(), w.Code)
		}
		_ = writer.Close()
	}
}

func TestABodyThatDoesNotArriveInTime(t *testing.T) {
	t.Parallel()
	e := revoke(t, newProvider(t).revocation())
	e.bodyTimeout = time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.Serve(w, r, func() (Target, func()) {
			t.Error("it holds the database")
			return Target{}, func() {}
		})
	}))
	defer server.Close()
	body, slow := io.Pipe()
	defer slow.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+secretOfOurs)
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestOptionsOfGlobalTokenRevocation(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for says, change := range map[string]func(*TokenRevocation){
		"set issuer and jwks for an identity provider": func(o *TokenRevocation) { o.JWKS, o.Secret = "", "" },
		"jwks needs issuer":                            func(o *TokenRevocation) { o.Issuer = "" },
		"secret must have at least 32":                 func(o *TokenRevocation) { o.Secret = "short" },
		`path is "x"`:                                  func(o *TokenRevocation) { o.Path = "x" },
		`algorithms has "none"`:                        func(o *TokenRevocation) { o.Algorithms = []string{"none"} },
		"provider and sub_is_user_id exclude":          func(o *TokenRevocation) { o.SubIsUserID = true },
		"jwks: open /nowhere":                          func(o *TokenRevocation) { o.JWKS = "/nowhere" },
	} {
		options := p.revocation()
		change(&options)
		_, err := Open(&options, environment.New(), Defaults{Origin: "https://app.example"}, keys{})
		if err == nil || !strings.HasPrefix(err.Error(), "global_token_revocation: ") || !strings.Contains(err.Error(), strings.TrimPrefix(says, "jwks: ")) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
	options := p.revocation()
	if _, err := Open(&options, environment.New(), Defaults{AuthPath: "/auth"}, keys{}); err == nil || !strings.Contains(err.Error(), "set audience to the URL of this endpoint, such as https://app.example/auth/global-token-revocation") {
		t.Errorf("the address of the site is not known: %v", err)
	}
	if _, err := Open(&options, environment.New(), Defaults{Origin: "https://app.example", NoUsers: true}, keys{}); err == nil || !strings.Contains(err.Error(), identities.ErrUnsupported.Error()) {
		t.Errorf("where users cannot be found: %v", err)
	}
}

// FuzzRevocation reads the bodies of whoever has credentials.
func FuzzRevocation(f *testing.F) {
	for _, seed := range []string{`{"sub_id":{"format":"iss_sub","iss":"https://id.example","sub":"a"}}`, `{"subject":{"format":"email","email":"a@b"}}`, `{"sub_id":{"format":"opaque","id":"a"}}`, `{"sub_id":null,"subject":{}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		named, failed := parseUser([]byte(body))
		if failed != nil {
			if failed.status != http.StatusBadRequest {
				t.Errorf("status %d", failed.status)
			}
			return
		}
		if id, err := identifier(named); err == nil && (len(id.value) > 1024 || strings.ContainsRune(id.value, 0)) {
			t.Errorf("%+v", id)
		}
	})
}
