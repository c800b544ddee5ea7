// Package stalesession is a Caddy module that ends the sessions of users who
// no longer exist. It reads the session cookie of NextAuth v4, Auth.js v5 or
// any signed JWT, and checks its subject against the app's own Postgres.
package stalesession

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
	"github.com/seed-4adef13c/caddy-stale-session/internal/answer"
	"github.com/seed-4adef13c/caddy-stale-session/internal/authroutes"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cleanup"
	"github.com/seed-4adef13c/caddy-stale-session/internal/command"
	"github.com/seed-4adef13c/caddy-stale-session/internal/directive"
	"github.com/seed-4adef13c/caddy-stale-session/internal/environment"
	_ "github.com/seed-4adef13c/caddy-stale-session/internal/formats/auth0"      // registers its module
	_ "github.com/seed-4adef13c/caddy-stale-session/internal/formats/betterauth" // registers its module
	_ "github.com/seed-4adef13c/caddy-stale-session/internal/formats/iron"       // registers its module
	_ "github.com/seed-4adef13c/caddy-stale-session/internal/formats/remix"      // registers its module
	_ "github.com/seed-4adef13c/caddy-stale-session/internal/formats/supabase"   // registers its module
	"github.com/seed-4adef13c/caddy-stale-session/internal/identities"
	"github.com/seed-4adef13c/caddy-stale-session/internal/mode"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/provision"
	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
	"github.com/seed-4adef13c/caddy-stale-session/internal/scope"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/signals"
	"github.com/seed-4adef13c/caddy-stale-session/internal/streams"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

func init() {
	caddy.RegisterModule(new(Handler))
	command.Register(describe)
	admin.Register(provision.Recorded)
	telemetry.Observe(provision.Engines, provision.Readers, provision.Lists, streams.Open.Count)
}

// Handler ends stale sessions: sessions whose user was deleted, disabled or
// replaced since the session cookie was issued. On guarded routes it clears the
// cookies of such a session, and redirects people to the sign-in page; API clients
// get a 401 in JSON. On all others it removes the session from the request, which
// reaches the app as anonymous.
//
// The app needs no change. A standard NextAuth or Auth.js app needs no
// configuration either, if DATABASE_URL and AUTH_SECRET or NEXTAUTH_SECRET are set
// in Caddy's environment.
//
// It fails open: an error, such as a database that is down, slow or being migrated,
// never ends a session.
//
// It sets these placeholders for each request that it checks:
//
//	{http.stale_session.verdict}   live, stale, anonymous, invalid or unknown
//	{http.stale_session.reason}    if stale: user_not_found, user_disabled, token_predates_account, token_revoked or claim_mismatch
//	{http.stale_session.subject}   the user id in the session
//
// Each detection emits the event `stale_session.detected`, and logs "stale session
// detected" at level WARN.
type Handler struct {
	// The guarded routes: from which the owner of a stale session is sent to sign
	// in. The sign-in page and the auth routes are never guarded. Default: all
	// others.
	GuardedRaw caddyhttp.RawMatcherSets `json:"guarded,omitempty" caddy:"namespace=http.matchers"`

	// The module that looks users up. Default: `postgres`, with Database, Users,
	// Query and ListenDatabase of this handler. If a module is given, these must be
	// options of that module.
	DirectoryRaw json.RawMessage `json:"directory,omitempty" caddy:"namespace=http.handlers.stale_session.directories inline_key=module"`

	// The formats in which sessions are read: `authjs` (NextAuth, Auth.js and any
	// JWT, by the options of this handler), `better_auth`, and those of other modules.
	// Default: all that there are keys for, in the options or in the environment.
	FormatsRaw []json.RawMessage `json:"formats,omitempty" caddy:"namespace=http.handlers.stale_session.formats inline_key=format"`

	postgres.DatabaseOptions
	accounts.LookupOptions
	session.TokenOptions
	scope.Routes
	answer.Answers

	// What the handler does: `enforce`, `observe` (only log and count) or `off`.
	// Default: {env.STALE_SESSION_MODE}, else enforce.
	Mode string `json:"mode,omitempty"`

	// What happens on guarded routes to a session that could not be checked: with
	// `allow` it passes, with `deny` the answer is 503. Default: allow.
	OnError string `json:"on_error,omitempty"`

	// Answer requests on guarded routes that have no session, or one that is
	// unreadable or expired, like a stale one. Default: false, they pass unchanged.
	RequireSession bool `json:"require_session,omitempty"`

	// What happens when the app answers a live session with a 5xx status: `on`
	// looks the user up again, past the cache, and replaces the response if the
	// session has become stale; `off` does nothing. Default: on.
	Rescue string `json:"rescue,omitempty"`

	// What happens to what is under way of a session when it ends, such as WebSockets,
	// event streams and downloads, on all routes where it is checked: `on` ends them,
	// `off` lets them go on. A request that changes something gets its answer. Default:
	// on.
	Streams string `json:"streams,omitempty"`

	// Deletes expired and orphaned rows of a sessions table on a schedule. Default:
	// off.
	SessionCleanup *cleanup.Cleanup `json:"cleanup,omitempty"`

	// Where nodes share the sessions that an operator or an identity provider has
	// revoked. Default: the users' Postgres, if `caddy stale-session install` was
	// run for it, else Caddy's storage.
	Revocations *revocation.Revocations `json:"revocations,omitempty"`

	// Lets an OpenID provider end sessions. Default: off.
	BackchannelLogout *signals.Backchannel `json:"backchannel_logout,omitempty"`

	// Let identity providers, or scripts of your own, end all sessions of a user: each
	// with its own path. Default: off.
	TokenRevocation []signals.TokenRevocation `json:"global_token_revocation,omitempty"`

	// Receive the events of transmitters of Shared Signals: each with its own path.
	// Default: off.
	SharedSignals []signals.SharedSignals `json:"shared_signals,omitempty"`

	mode      string
	lookups   accounts.Config
	directory directories.Module
	formats   []caddy.Module
	signals   []signals.Endpoint
	auth      *authroutes.Routes
	rules     scope.Rules
	validator *validator
	responder *answer.Responder
	reporter  *telemetry.Reporter
	streams   *streams.Registry // nil if they do not end
	storage   certmagic.Storage
	resources provision.Resources
	lease     provision.Lease
	late      late // once that has ended
}

// off is a value of Handler.Rescue and others.
const off = "off"

// The values of Handler.OnError.
const (
	onErrorAllow = "allow"
	onErrorDeny  = "deny"
)

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.stale_session",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the handler up. It does no network I/O: Caddy starts even if the
// database is down.
func (h *Handler) Provision(ctx caddy.Context) error {
	env := environment.New()
	h.mode = cmp.Or(env.Optional(cmp.Or(h.Mode, "{env."+mode.Variable+"}")), mode.Enforce)
	mode.Announce(ctx.Logger(), admin.Modes(), h.mode)
	if h.mode == mode.Off {
		h.resources.Defer(admin.AddHandler(admin.Handler{Mode: h.mode}))
		return nil
	}
	var guarded caddyhttp.MatcherSets
	if h.GuardedRaw != nil {
		matchers, err := ctx.LoadModule(h, "GuardedRaw")
		if err != nil {
			return fmt.Errorf("loading the matchers of guarded routes: %w", err)
		}
		if err := guarded.FromInterface(matchers); err != nil {
			return err
		}
	}
	if err := h.provisionAnswers(env, guarded); err != nil {
		return err
	}
	if err := errors.Join(h.loadDirectory(ctx), h.loadFormats(ctx)); err != nil {
		return err
	}
	h.storage = ctx.Storage()
	if h.mode == mode.Enforce && h.Streams != off {
		h.streams = streams.Open
		if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
			server.RegisterConnContext(streams.Remember)
		}
	}
	var err error
	if h.lookups, err = h.LookupOptions.Config(); err != nil {
		return err
	}
	h.lookups.Observer, h.lookups.Streams = telemetry.Directories{}, streams.Open
	h.lookups.Logger = func() *zap.Logger { return caddy.Log().Named("http.handlers.stale_session.directory") }
	if h.validator, err = h.newValidator(env, &h.lease.Resources, h.lookups); err != nil {
		return err
	}
	h.directory = h.directoryOf(h.validator.reader.UsersTable())
	if h.RequireSession && !h.answers(h.validator.reader.SignInPage()) {
		return errors.New("`require_session` needs `sign_in`, or `respond json`: the library whose sessions are read has no sign-in page of its own")
	}
	if h.endsStreams() {
		h.resources.Defer(h.streams.End(h.validator.accounts.String()))
	}
	if err := h.resources.Cleanup(h.SessionCleanup, h.directory, h.storage); err != nil {
		return err
	}
	if err := h.resources.Record(); err != nil {
		return err
	}
	if err := h.openSignals(env); err != nil {
		return err
	}
	detections := telemetry.Detections{Logger: ctx.Logger(), Context: ctx, Mode: h.mode}
	if app, err := ctx.AppIfConfigured("events"); err == nil {
		detections.Events = app.(*caddyevents.App)
	}
	if h.reporter, err = telemetry.NewReporter(detections, cmp.Or(h.Subject, session.DefaultSubject)); err != nil {
		return err
	}
	h.resources.Defer(h.reporter.Close)
	h.resources.Defer(admin.AddHandler(admin.Handler{
		Mode: h.mode, SignIn: h.responder.Page, Accounts: h.validator.accounts, Reader: h.validator.reader, Revoked: h.validator.revoked, Judge: h.validator.judgeNow,
	}))
	return telemetry.Register(ctx.GetMetricsRegistry())
}

// openSignals sets up the endpoints for signals from outside.
func (h *Handler) openSignals(env environment.Environment) error {
	users, found := postgres.ConfigOf(h.directory)
	defaults := signals.Defaults{
		Issuer: h.Issuer, Audience: h.Audience, JWKS: h.JWKS, Origin: env.Origin(), AuthPath: h.auth.Base(),
		IssuedAt: cmp.Or(h.IssuedAt, session.DefaultIssuedAt) != session.DefaultIssuedAt, NoUsers: !found || users.Query != "",
	}
	var failures []error
	for _, options := range h.endpoints() {
		e, err := signals.Open(options, env, defaults, &h.resources)
		if err == nil && slices.ContainsFunc(h.signals, func(other signals.Endpoint) bool { return other.At() == e.At() }) {
			err = fmt.Errorf("%s: another endpoint has the path %s too: set `path`", e.Kind(), e.At())
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		h.signals = append(h.signals, e)
	}
	return errors.Join(failures...)
}

// endpoints returns the options of all endpoints for signals.
func (h *Handler) endpoints() (all []signals.Options) {
	if h.BackchannelLogout != nil {
		all = append(all, h.BackchannelLogout)
	}
	for i := range h.TokenRevocation {
		all = append(all, &h.TokenRevocation[i])
	}
	for i := range h.SharedSignals {
		all = append(all, &h.SharedSignals[i])
	}
	return all
}

// provisionAnswers sets up the routes and the answers to stale sessions.
func (h *Handler) provisionAnswers(env environment.Environment, guarded caddyhttp.MatcherSets) error {
	names, err := h.CookieNames(env)
	if err != nil {
		return err
	}
	if h.auth, err = authroutes.New(h.AuthPaths, env); err != nil {
		return err
	}
	if path := h.auth.Unclear(); path != "" {
		caddy.Log().Named("http.handlers.stale_session").Warn("AUTH_URL has a path that does not end in /auth: "+
			"it is taken for the one below which the app's auth routes are; if they are elsewhere, set `auth_path`", zap.String("path", path))
	}
	if h.responder, err = answer.New(h.Answers, env, h.auth, names); err != nil {
		return err
	}
	h.rules = scope.New(h.Routes, guarded, h.auth, h.responder.SignIn(), env.Origin())
	return nil
}

// Validate checks options that need nothing else to be loaded.
func (h *Handler) Validate() error {
	if err := directive.OneOf("mode", h.mode, mode.Enforce, mode.Observe, mode.Off); err != nil || h.mode == mode.Off {
		return err
	}
	return errors.Join(
		h.Routes.Validate(), h.Answers.Validate(),
		directive.OneOf("on_error", h.OnError, onErrorAllow, onErrorDeny),
		directive.OneOf("rescue", h.Rescue, "on", off),
		directive.OneOf("streams", h.Streams, "on", off),
	)
}

// Cleanup releases what Provision acquired, once no request uses it.
func (h *Handler) Cleanup() error { return errors.Join(h.resources.Release(), h.lease.End()) }

// matchesSessionID reports whether sessions can be revoked by the claims of
// sessionIDs.
func (h *Handler) matchesSessionID() bool {
	return h.BackchannelLogout != nil || len(h.SharedSignals) > 0
}

// newValidator returns a validator, and acquires the resources that it shares with
// other handlers.
func (h *Handler) newValidator(env environment.Environment, resources *provision.Resources, config accounts.Config) (v *validator, err error) {
	v = &validator{timeout: cmp.Or(config.Timeout, accounts.DefaultTimeout), matchesSessionID: h.matchesSessionID()}
	if v.reader, err = h.reader(env, resources); err != nil {
		return nil, err
	}
	if v.accounts, err = resources.Accounts(h.directoryOf(v.reader.UsersTable()), config); err != nil {
		return nil, err
	}
	for _, store := range v.reader.Stores() {
		sessions, err := resources.Sessions(h.directory, store, config)
		if err != nil {
			return nil, err
		}
		v.sessions = append(v.sessions, sessions)
	}
	findings, err := resources.Findings(v.accounts)
	if err != nil {
		return nil, err
	}
	v.evidence = v.reader.Evidence(findings)
	v.revoked, err = resources.Revocations(h.Revocations, h.storage, v.accounts)
	return v, err
}

// acquire returns the validator, and the lease that keeps it open. What goes on after a
// reload has replaced the configuration, such as a stream, or a request that an earlier
// handler delayed, gets a new validator.
func (h *Handler) acquire() (*validator, *provision.Lease) {
	if h.lease.Acquire() {
		return h.validator, &h.lease
	}
	h.late.Lock()
	defer h.late.Unlock()
	if h.late.validator == nil {
		h.openLate()
	}
	h.late.lease.Acquire()
	return h.late.validator, h.late.lease
}

// late is the validator of a replaced configuration. Many streams may be judged at a
// time, and share it; it ends soon, because it keeps connections open.
type late struct {
	sync.Mutex
	validator *validator // nil once its time is over
	lease     *provision.Lease
}

// lateFor is how long a late validator is shared.
const lateFor = time.Second

// openLate sets up another validator after a reload. It asks the same directory by an
// engine in use, if there is one, whatever its options: the caches and the brake of a new
// one would know nobody. The caller holds h.late.
func (h *Handler) openLate() {
	config, inUse := provision.Lookups(h.directory, h.lookups)
	if !inUse {
		config = config.ForAMoment()
	}
	lease := new(provision.Lease)
	v, err := h.newValidator(environment.New(), &lease.Resources, config)
	if err == nil {
		v.late = true
		v.accounts.Succeed(h.validator.accounts)
		v.evidence.Succeed(h.validator.evidence.Findings)
	} else {
		caddy.Log().Named("http.handlers.stale_session").Error("cannot check a request of a replaced configuration", zap.Error(err))
		v = h.validator // closed: its verdict is unknown
	}
	h.late.validator, h.late.lease = v, lease
	time.AfterFunc(lateFor, func() { // whoever has it may keep it
		h.late.Lock()
		defer h.late.Unlock()
		h.late.validator = nil
		lease.Release()
	})
}

// inUse reports whether an engine asks the directory.
func (h *Handler) inUse() bool {
	_, inUse := provision.Lookups(h.directory, h.lookups)
	return inUse
}

// target returns what signals from outside act on, and what releases it.
func (h *Handler) target() (signals.Target, func()) {
	v, lease := h.acquire()
	users, _ := v.accounts.Directory().(identities.Users)
	return signals.Target{Users: users, Exists: v.exists, Sessions: v.revoked}, lease.Release
}

// reader acquires the token reader.
func (h *Handler) reader(env environment.Environment, resources *provision.Resources) (*session.Reader, error) {
	return resources.Reader(env, h.sessions())
}

// sessions returns which sessions are read.
func (h *Handler) sessions() provision.Sessions {
	match := h.directory.MatchedClaims()
	if h.matchesSessionID() {
		match = slices.Concat(match, sessionIDs)
	}
	of := provision.Sessions{Tokens: h.TokenOptions, Formats: h.formats, Match: match}
	if h.Cache != nil {
		of.Cached = h.Cache.Size // one per account
	}
	return of
}

// directoryOf returns the directory, which looks users up in the table of the library
// whose sessions are read, if it has one, unless another is configured.
func (h *Handler) directoryOf(table string) directories.Module {
	if m, ok := h.directory.(interface {
		WithTable(table string) directories.Module
	}); ok && table != "" {
		return m.WithTable(table)
	}
	return h.directory
}

// loadFormats sets h.formats.
func (h *Handler) loadFormats(ctx caddy.Context) error {
	if h.FormatsRaw == nil {
		return nil
	}
	modules, err := ctx.LoadModule(h, "FormatsRaw")
	if err != nil {
		return fmt.Errorf("loading the formats of sessions: %w", err)
	}
	for _, module := range modules.([]any) {
		h.formats = append(h.formats, module.(caddy.Module))
	}
	return nil
}

// loadDirectory sets h.directory.
func (h *Handler) loadDirectory(ctx caddy.Context) error {
	if len(h.DirectoryRaw) == 0 {
		h.directory = &postgres.Module{DatabaseOptions: h.DatabaseOptions}
		return nil
	}
	if h.DatabaseOptions != (postgres.DatabaseOptions{}) {
		return errors.New("with `directory`, set database, users, query and listen_database in the block of `directory postgres`")
	}
	var of struct{ Module string }
	if err := json.Unmarshal(h.DirectoryRaw, &of); err == nil { // else LoadModule says what is wrong
		if err := provision.Linked(of.Module); err != nil {
			return fmt.Errorf("directory %s: %w", of.Module, err)
		}
	}
	module, err := ctx.LoadModule(h, "DirectoryRaw")
	if err != nil {
		return fmt.Errorf("loading the directory: %w", err)
	}
	var ok bool
	if h.directory, ok = module.(directories.Module); !ok {
		return fmt.Errorf("the module %T is not a directory", module)
	}
	return nil
}

// describe returns what the commands need of a handler.
func describe(text []byte) (site command.Site, err error) {
	h := new(Handler)
	if err := json.Unmarshal(text, h); err != nil {
		return site, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := errors.Join(h.loadDirectory(ctx), h.loadFormats(ctx)); err != nil {
		return site, err
	}
	h.directory = h.directoryOf(provision.UsersTable(environment.New(), h.sessions()))
	signIn := h.SignIn
	if signIn == "" && len(h.AuthPaths) > 0 {
		signIn = strings.TrimRight(h.AuthPaths[0], "/") + "/signin"
	}
	var providers []string
	for _, options := range h.endpoints() {
		providers = append(providers, options.Providers()...)
	}
	return command.Site{
		Directory: h.directory, Providers: providers, Unwatched: h.Poll == off, Timeout: time.Duration(h.Timeout), Revocations: h.Revocations, SignIn: signIn,
		Reader: func() (*session.Reader, error) { return provision.QuietReader(environment.New(), h.sessions()) },
	}, nil
}

// request is a request that was checked, and its response.
type request struct {
	result
	r         *http.Request
	handler   *Handler
	validator *validator
	lease     *provision.Lease // keeps the validator open; nil once released
	marker    answer.Marker    // read for result.marks
	header    answer.HeaderWriter
	stream    streams.Stream
	owned     []session.Token // that the stream is judged by
	owning    sync.Mutex      // for owned, once the stream is open
	answers   bool            // a stale session is answered
	replaced  bool            // an answer has replaced the app's
	failure   error           // of that
}

// release releases the validator. A response that streams for hours must not keep
// the connections of a replaced configuration open.
func (x *request) release() {
	if x.lease != nil {
		x.lease.Release()
		x.lease = nil
	}
}

// end ends what pass has begun.
func (x *request) end() {
	x.release()
	x.stream.Leave()
}

// pass passes the request to the app, and intercepts the response.
func (x *request) pass(w http.ResponseWriter, next caddyhttp.Handler) error {
	x.header.ResponseWriter, x.header.Interceptor = x.open(w), x
	err := next.ServeHTTP(&x.header, x.r)
	x.header.Done()
	switch {
	case x.replaced:
		return x.failure
	case x.stream.Cut():
		panic(http.ErrAbortHandler)
	}
	return err
}

// Intercept implements answer.Interceptor. It answers in place of the app if the
// stream has ended meanwhile.
func (x *request) Intercept(header http.Header, status int) bool {
	defer x.release()
	if x.stream.Ended() == nil && !x.check.Braked && x.inspect(header, status) {
		return true
	}
	if x.stream.Send(status, header) {
		return false
	}
	x.answerEnded(header)
	return true
}

// inspect removes a session from the response that has become stale since the request,
// and clears a stripped one. It replaces a 5xx response to a session that has become
// stale, and reports whether it did.
func (x *request) inspect(header http.Header, status int) bool {
	h, r := x.handler, x.r
	if h.responder.Reroute(x.header.ResponseWriter, r, status) {
		return true
	}
	if h.rules.SignsIn(r) {
		if to := answer.LeadsInside(r, header, status); to != "" {
			h.reporter.LedInside(to)
		}
	}
	h.auth.Learn(r.Method, answer.Requested(r).Path, header)
	h.responder.Allows(r, header, status)
	failed := status >= http.StatusInternalServerError && x.check.Verdict == verdict.Live
	if len(header["Set-Cookie"]) == 0 && !x.check.Strip && !failed {
		return false
	}
	if x.lease == nil {
		x.validator, x.lease = h.acquire()
	}
	v := x.validator
	x.wait.Set(r.Context(), time.Now().Add(v.timeout)) // again, after the app's answer
	defer x.wait.End()
	if failed && x.rescue(header) {
		return true
	}
	var cleared []string
	if x.check.Strip { // what the app sets is a new session
		cleared = x.check.Ended
	}
	var set session.Session
	v.reader.ReadResponse(header, x.renewable(), &set)
	v.measure(&x.session, &set)
	if len(set.Tokens) > 0 {
		if names, dropped := x.guard(header, &set); dropped {
			cleared = slices.Concat(names, cleared)
			set = session.Session{}
			v.reader.ReadResponse(header, x.renewable(), &set)
		} else if h.rules.SigningIn(r) || len(x.sent()) == 0 {
			telemetry.SignedIn()
		}
	}
	ended := answer.Ended{Names: cleared, Beside: x.check.Beside}
	if len(cleared)+len(ended.Beside) > 0 || x.check.Verdict == verdict.Stale {
		ended.Marks, ended.Marker = x.marks, x.marker
	}
	if len(ended.Beside) > 0 {
		ended.Live = x.check.Session.Tokens[0].Mark()
	}
	if len(set.Tokens) > 0 {
		h.responder.Learn(header, func(name string) bool { return slices.Contains(set.Names, name) })
	}
	for i := range set.Tokens {
		h.responder.Keeps(r, header, set.Tokens[i].Names, set.Tokens[i].Mark())
	}
	h.responder.Clear(header, r, ended, func(name string) bool { return slices.Contains(set.Names, name) })
	return false
}

// guard removes what is stale from the session that a response sets. It reports
// whether anything was, and returns the names of the cookies to clear then.
func (x *request) guard(header http.Header, set *session.Session) (cleared []string, dropped bool) {
	v := x.validator
	sent := x.sent()
	died := v.judgeAgain(&x.wait, sent, time.Time{})
	signingIn := x.handler.rules.SigningIn(x.r)
	judge := func(tokens []session.Token) []verdict.Judgement {
		judgements := v.judgeAgain(&x.wait, tokens, time.Time{})
		if !signingIn {
			spread(judgements, died)
		}
		return judgements
	}
	judgements := judge(set.Tokens)
	check := verdict.Whole(set, judgements)
	if !check.Strip {
		return nil, false
	}
	read := func(header http.Header, s *session.Session) { v.reader.ReadResponse(header, x.renewable(), s) }
	stale := judgements[slices.IndexFunc(judgements, func(j verdict.Judgement) bool { return j.Verdict == verdict.Stale })]
	rest := verdict.Separate(v.reader, v.reader.Fields(header), judgements, &check, read, judge)
	delete(header, "Set-Cookie")
	if lines := rest["Set-Cookie"]; lines != nil {
		header["Set-Cookie"] = lines
	}
	x.handler.reporter.Dropped(x.r, stale)
	if stale.Alone { // as in replace
		return nil, true
	}
	ended := x.check.Ended
	if len(sent) > 0 {
		ended = slices.Concat(ended, verdict.Whole(x.check.Session, died).Ended)
	}
	// Of a name that the browser has a cookie of, that one counts: the response's
	// does not take its place.
	kept := func(name string) bool {
		return slices.Contains(x.check.Session.Names, name) && !slices.Contains(ended, name)
	}
	return slices.Concat(slices.DeleteFunc(check.Ended, kept), ended), true
}

// renewable returns the tokens of a request that its response may renew. In the
// answer to any other one, a token is a new one: somebody signs in.
func (x *request) renewable() []session.Token {
	if x.check.Verdict != verdict.Live || x.r.Method != http.MethodGet && x.r.Method != http.MethodHead || x.handler.rules.SigningIn(x.r) {
		return nil
	}
	return x.check.Session.Tokens
}

// sent returns the tokens that have reached the app.
func (x *request) sent() []session.Token {
	if x.check.Verdict == verdict.Live || x.check.Verdict == verdict.Unknown || x.check.Braked {
		return x.check.Session.Tokens
	}
	return nil
}

// rescue answers in place of the app if the session was live and has become stale.
// It reports whether it did.
func (x *request) rescue(header http.Header) bool {
	h, r, v := x.handler, x.r, x.validator
	telemetry.UpstreamFailed()
	if h.Rescue == off || h.rules.SignsIn(r) {
		return false
	}
	judgements := v.judgeAgain(&x.wait, x.sent(), time.Now())
	check := verdict.Whole(x.check.Session, judgements)
	if check.Verdict != verdict.Stale {
		return false
	}
	h.reporter.Rescued(r, check.Judgement)
	telemetry.Responded(telemetry.Response(h.responder.Kind(r)))
	v.reader.StripSetCookies(header)
	x.replace(check, judgements)
	return true
}

// replace answers in place of the app, because the session has become stale. If that
// session alone has ended, the app may have begun another meanwhile, whose cookies the
// browser must keep: the next request clears those that it still has of this one.
func (x *request) replace(check verdict.Check, judgements []verdict.Judgement) {
	ended := answer.Ended{Names: x.check.Ended, Marks: x.marks}
	if !slices.ContainsFunc(judgements, func(j verdict.Judgement) bool { return j.Alone }) {
		ended.Names, ended.Marks = slices.Concat(check.Ended, ended.Names), slices.Concat(marks(x.sent(), judgements), ended.Marks)
	}
	ended.Marker = answer.ReadMarker(x.r, ended.Marks)
	x.replaced, x.failure = true, x.handler.responder.Replace(x.header.ResponseWriter, x.r, ended)
}

// expiryTolerance is how long after its expiry a token is still read.
const expiryTolerance = 15 * time.Second

// endsStreams reports whether streams end with their sessions.
func (h *Handler) endsStreams() bool { return h.streams != nil }

// enter makes the request known by the names of its session, before these are looked up.
func (x *request) enter() {
	if !x.handler.endsStreams() {
		return
	}
	x.own(x.session.Tokens)
	var room [2]streams.Name
	if names := x.names(room[:0]); len(names) > 0 {
		x.stream.Enter(x.handler.streams, names)
	}
}

// own sets the tokens that a stream is judged by. The row of a session that the app looks
// up can be gone with its user, so its owner is noted before.
func (x *request) own(tokens []session.Token) {
	v := x.validator
	x.wait.Set(x.r.Context(), x.session.At.Add(v.timeout))
	defer x.wait.End()
	x.owned = v.owned(&x.wait, tokens, x.session.At)
}

// names appends those of the session: of its users, and of its rows that it ends with, or
// that may tell later whose it is.
func (x *request) names(names []streams.Name) []streams.Name {
	v := x.validator
	for i := range x.owned {
		token := &x.owned[i]
		c := &token.Claims
		if len(c.Subject) > 0 {
			names = append(names, streams.Name{Directory: v.accounts.String(), Subject: v.accounts.Key(c.Subject)})
		} else if !c.AppAsks {
			continue
		}
		if len(c.SessionID) == 0 {
			continue
		}
		if rows := v.sessions[token.Format()]; rows != nil && (rows.Kept() || c.AppAsks) {
			names = append(names, streams.Name{Directory: rows.String(), Subject: rows.Key(c.SessionID)})
		}
	}
	return names
}

// open begins the stream, if a session reaches the app.
func (x *request) open(w http.ResponseWriter) http.ResponseWriter {
	if !x.stream.Known() || len(x.sent()) == 0 {
		return w
	}
	if x.check.Source != accounts.FromCache { // the directory may have learned how it spells them
		x.stream.Rename(x.names(nil))
	}
	if x.check.Session != &x.session { // a part of it
		x.own(x.sent())
	}
	w, x.r = x.stream.Open(streams.Options{
		Session: x, Writer: w, Request: x.r, Began: x.session.At, Answers: x.answers, Expires: x.expires(),
	})
	return w
}

// expires returns when the tokens that have reached the app have all expired; zero for
// never.
func (x *request) expires() (at time.Time) {
	for i := range x.owned {
		c := &x.owned[i].Claims
		expires := c.ExpiresAt
		if expires.IsZero() || len(c.SessionID) > 0 { // the app renews it from its store
			return time.Time{}
		}
		if expires = expires.Add(expiryTolerance); expires.After(at) {
			at = expires
		}
	}
	return at
}

// Judge implements streams.Session, by the rules for requests. What outlives its
// configuration ends only while a handler of a later one ends streams of the same users,
// and without a hint no connections are opened for it.
func (x *request) Judge(swept bool) (ended *streams.Ended, known bool) {
	h := x.handler
	if h.lease.Ended() && (!h.streams.Ends(h.validator.accounts.String()) || swept && !h.inUse()) {
		return nil, true
	}
	v, lease := h.acquire()
	defer lease.Release()
	ctx, cancel := context.WithTimeout(context.Background(), v.timeout)
	defer cancel()
	now := time.Now()
	owned := v.owned(ctx, x.owned, now)
	x.owning.Lock()
	x.owned = owned
	x.owning.Unlock()
	judgements := v.held(v.judge(ctx, owned, asking{now: now, aside: true}, nil))
	check := verdict.Whole(x.check.Session, judgements)
	if check.Verdict != verdict.Stale && check.Dissent == nil {
		return nil, check.Verdict != verdict.Unknown
	}
	ended = &streams.Ended{Check: check, Judgements: judgements}
	if check.Dissent != nil { // the app may act on either
		ended.Judgement, ended.Another = *check.Dissent, true
	}
	return ended, true
}

// Revoked implements streams.Session.
func (x *request) Revoked(list *revocation.List) bool {
	v := x.handler.validator
	if list.Users() != v.revoked.Users() {
		return false
	}
	x.owning.Lock()
	defer x.owning.Unlock()
	for i := range x.owned {
		if v.mayRevoke(list, &x.owned[i].Claims) {
			return true
		}
	}
	return false
}

// Report implements streams.Session.
func (*request) Report(kind string, why *streams.Ended, age time.Duration) {
	telemetry.EndStream(kind, why.Judgement, age)
}

// answerEnded answers in place of the app, because the session has ended meanwhile.
func (x *request) answerEnded(header http.Header) {
	h := x.handler
	if x.lease == nil {
		x.validator, x.lease = h.acquire()
	}
	telemetry.Responded(telemetry.Response(h.responder.Kind(x.r)))
	x.validator.reader.StripSetCookies(header)
	if x.r.ProtoMajor == 1 && x.stream.Unread() {
		header.Set("Connection", "close")
	}
	why := x.stream.Ended()
	x.replace(why.Check, why.Judgements)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
	_ answer.Interceptor          = (*request)(nil)
)

// ServeHTTP checks the session of a request before the app gets it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.mode == mode.Off {
		return next.ServeHTTP(w, r)
	}
	for _, e := range h.signals {
		if r.URL.Path == e.At() {
			h.reporter.Signalled(e.Kind(), e.At(), e.Serve(w, r, h.target))
			return nil
		}
	}
	route, err := h.rules.Of(r)
	switch {
	case err != nil:
		return err
	case route == scope.Clearing:
		var s session.Session
		h.validator.reader.Read(r.Header, &s)
		cleared, err := h.responder.ClearSession(w, r, s.Names)
		if cleared {
			telemetry.Responded(telemetry.Clear)
		}
		return err
	case route == scope.Passed:
		return next.ServeHTTP(w, r)
	case route.Answers() && answer.Preflight(r): // browsers send no cookies with it, other clients can
		route = scope.Stripped
	}
	x := &request{handler: h, r: r, answers: route.Answers()}
	x.validator, x.lease = h.acquire()
	defer x.end()
	x.validator.reader.Read(r.Header, &x.session)
	x.enter()
	x.validator.validate(r, &x.result)
	check := &x.check
	h.reporter.Checked(r, check, route.String())
	// A session that comes back although its cookies were cleared is not led to the
	// sign-in page once more. Whatever stays on its page is answered again.
	x.marker = answer.ReadMarker(r, x.marks)
	loops := x.marker.Returns()
	if loops {
		h.reporter.Returned(h.responder.Advice())
		loops = route == scope.Call || h.responder.Kind(r) == answer.Redirect
	}
	switch {
	case h.mode == mode.Observe:
		x.release()
		return next.ServeHTTP(w, r)
	case check.Braked: // its streams end once the brake is off
		x.release()
		return x.pass(w, next)
	case h.ends(route, check) && (h.RequireSession || !loops):
		telemetry.Responded(telemetry.Response(h.responder.Kind(r)))
		return h.responder.Stale(w, r, answer.Ended{Names: check.Ended, Marks: x.marks, Marker: x.marker})
	case h.OnError == onErrorDeny && check.Verdict == verdict.Unknown && route.Answers():
		telemetry.Responded(telemetry.Unavailable)
		w.Header().Set("Retry-After", "5")
		return caddyhttp.Error(http.StatusServiceUnavailable, errors.New("the session could not be checked"))
	case check.Strip:
		telemetry.Responded(telemetry.Scrub)
		for _, field := range x.validator.reader.RequestFields() {
			delete(r.Header, field)
			if lines := x.rest[field]; lines != nil {
				r.Header[field] = lines
			}
		}
		return x.pass(w, next)
	case len(check.Session.Tokens) == 0:
		x.release() // until the app signs somebody in
	}
	return x.pass(w, next)
}

// ends reports whether a request is answered because of its session, or because it
// has none. A library without a sign-in page of its own leaves it to the app where
// people go, unless that is configured: the app gets the request without the session.
func (h *Handler) ends(route scope.Scope, check *verdict.Check) bool {
	switch check.Verdict {
	case verdict.Stale:
		return route.Answers() && h.answers(check.Session.SignInPage())
	case verdict.Anonymous, verdict.Invalid:
		return route == scope.Guarded && h.RequireSession
	}
	return false
}

// answers reports whether stale sessions are answered on guarded routes, given
// whether their library has a sign-in page of its own.
func (h *Handler) answers(signInPage bool) bool {
	return signInPage || h.SignIn != "" || h.Respond == answer.JSON || h.Respond == answer.ErrorRoute
}
