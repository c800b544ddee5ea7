package integration

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	dto "github.com/prometheus/client_model/go"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// figures are the counters and the counts of histograms of the module, by name
// and labels.
func figures(t *testing.T) map[string]float64 {
	t.Helper()
	context := caddy.ActiveContext()
	families, err := context.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, family := range families {
		name, ours := strings.CutPrefix(family.GetName(), "caddy_stale_session_")
		if !ours {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			key := strings.Join(append([]string{name}, labels...), " ")
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				all[key] = metric.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				all[key] = float64(metric.GetHistogram().GetSampleCount())
			default:
			}
		}
	}
	return all
}

func TestMetricsTellWhatHappened(t *testing.T) {
	page := http.Header{"Sec-Fetch-Mode": {"navigate"}}
	for name, c := range map[string]struct {
		options []string
		before  func(t *testing.T, database, base string)
		app     http.HandlerFunc
		method  string
		path    string
		cookie  string // a subject
		header  http.Header
		want    map[string]float64 // what is counted besides the caches
	}{
		"a live session": {
			cookie: "live",
			want:   map[string]float64{"checks_total  database live": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1},
		},
		"a page of a deleted user": {
			cookie: "deleted", header: page,
			want: map[string]float64{"checks_total user_not_found database stale": 1, "responses_total redirect": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1},
		},
		"an API call of a deleted user": {
			cookie: "deleted",
			want:   map[string]float64{"checks_total user_not_found database stale": 1, "responses_total json": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1},
		},
		"answered by an error route": {
			cookie: "deleted", options: []string{"respond error"},
			want: map[string]float64{"checks_total user_not_found database stale": 1, "responses_total error": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1},
		},
		"on the sign-in page": {
			cookie: "deleted", path: "/api/auth/signin",
			want: map[string]float64{"checks_total user_not_found database stale": 1, "responses_total scrub": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1},
		},
		"cleared by hand":              {method: http.MethodPost, path: "/api/auth/clear-session", want: map[string]float64{"responses_total clear": 1}},
		"not cleared for another site": {method: http.MethodPost, path: "/api/auth/clear-session", header: http.Header{"Sec-Fetch-Site": {"cross-site"}}, want: map[string]float64{}},
		"nobody is signed in":          {want: map[string]float64{"checks_total   anonymous": 1}},
		"a cookie of another app": {
			header: http.Header{"Cookie": {standardapp.CookieName + "=x"}},
			want:   map[string]float64{"checks_total   invalid": 1},
		},
		"somebody signs in": {
			method: http.MethodPost, path: "/api/auth/callback/credentials",
			app: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Set-Cookie", r.Header.Get("X-New")+"; Path=/")
			},
			header: http.Header{"X-New": {standardapp.Session(t, "live")}},
			want:   map[string]float64{"checks_total   anonymous": 1, "sign_ins_total": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1},
		},
		"somebody signs in by a Server Action": {
			method: http.MethodPost, path: "/login",
			app: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Set-Cookie", r.Header.Get("X-New")+"; Path=/")
			},
			header:  http.Header{"X-New": {standardapp.Session(t, "live")}, "Next-Action": {"0042"}},
			options: []string{"sign_in /login"},
			want:    map[string]float64{"checks_total   anonymous": 1, "sign_ins_total": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1},
		},
		"somebody signs in over a stale session": {
			cookie: "deleted", method: http.MethodPost, path: "/login",
			app: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Set-Cookie", r.Header.Get("X-New")+"; Path=/")
			},
			header:  http.Header{"X-New": {standardapp.Session(t, "live")}},
			options: []string{"sign_in /login"},
			want: map[string]float64{
				"checks_total user_not_found database stale": 1, "responses_total scrub": 1, "sign_ins_total": 1,
				"lookup_duration_seconds": 2, "lookup_subjects": 2,
			},
		},
		"the app renews a session": {
			cookie: "live", path: "/page",
			app: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Set-Cookie", r.Header.Get("X-New")+"; Path=/")
			},
			header: http.Header{"X-New": {standardapp.Session(t, "live")}},
			want:   map[string]float64{"checks_total  database live": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1},
		},
		"somebody does not manage to": {
			method: http.MethodPost, path: "/api/auth/callback/credentials",
			app:  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
			want: map[string]float64{"checks_total   anonymous": 1},
		},
		"the app fails": {
			cookie: "live",
			app:    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
			// The second lookup is that whether the session has become stale.
			want: map[string]float64{"checks_total  database live": 1, "upstream_errors_total": 1, "lookup_duration_seconds": 2, "lookup_subjects": 2},
		},
		"the app fails of a deleted user": {
			before: func(t *testing.T, database, base string) {
				t.Helper()
				_ = caddytest.Ask(t, base, standardapp.Session(t, "live"))
				standardapp.Execute(t, database, `delete from "User"`)
			},
			cookie: "live",
			app:    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
			want: map[string]float64{
				"checks_total  cache live": 1, "checks_total user_not_found database stale": 1, "upstream_errors_total": 1, "rescues_total": 1,
				"responses_total json": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1,
			},
		},
		"without rights": {
			options: []string{"on_error deny"},
			before: func(t *testing.T, database, _ string) {
				t.Helper()
				standardapp.Execute(t, database, `alter table "User" rename column id to other`)
			},
			cookie: "live",
			want:   map[string]float64{"checks_total   unknown": 1, "responses_total unavailable": 1, "lookup_errors_total schema ": 1, "lookup_duration_seconds": 1, "lookup_subjects": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			database := standardapp.NewDatabase(t)
			app := caddytest.NewApp(t)
			base := caddytest.Start(t, caddytest.Site(append(append([]string{"stale_session {", "	poll off", "	cache {", "		ttl 1h", "	}"}, c.options...), "}", app.Proxy())...))
			if c.before != nil {
				c.before(t, database, base)
			}
			app.Answer(c.app)
			header := maps.Clone(c.header)
			if c.cookie != "" {
				header = http.Header{"Cookie": {standardapp.TokenOf(t, c.cookie, time.Hour)}}
				maps.Copy(header, c.header)
			}
			method, before := c.method, figures(t)
			if method == "" {
				method = http.MethodGet
			}
			caddytest.Do(t, method, base+c.path, header)
			got := figures(t)
			for key, value := range got {
				if got[key] = value - before[key]; got[key] == 0 || strings.HasPrefix(key, "cache_") {
					delete(got, key)
				}
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("counted %v, want %v", got, c.want)
			}
		})
	}
}

// resets are those of all databases.
func resets(figures map[string]float64) float64 {
	var all float64
	for key, value := range figures {
		if strings.HasPrefix(key, "epochs_total ") {
			all += value
		}
	}
	return all
}

// TestAReloadTakesNothingFromTheCounters closes a cache and a directory with
// the configuration that needs them.
func TestAReloadTakesNothingFromTheCounters(t *testing.T) {
	standardapp.NewDatabase(t)
	site := func(ttl string) string {
		return caddytest.Site("stale_session {", "	cache {", "		ttl "+ttl, "		size "+ttl[:2]+"000", "	}", "}", caddytest.NewApp(t).Proxy())
	}
	base := caddytest.Start(t, site("20m"))
	for range 5 {
		_ = caddytest.Ask(t, base, standardapp.Session(t, "live"))
		_ = caddytest.Ask(t, base, standardapp.TokenOf(t, "live", time.Hour))
	}
	before := figures(t)
	if before["cache_hits_total accounts"] == 0 {
		t.Fatalf("nothing is counted: %v", before)
	}
	if err := caddytest.Load(site("30m")); err != nil {
		t.Fatal(err)
	}
	for key, value := range figures(t) {
		if value < before[key] {
			t.Errorf("%s goes back from %v to %v", key, before[key], value)
		}
	}
}

// TestWhatCanHappenIsThereFromTheStart makes an alert see the first of its kind.
func TestWhatCanHappenIsThereFromTheStart(t *testing.T) {
	standardapp.NewDatabase(t)
	caddytest.Start(t, caddytest.Site("stale_session", "respond ok"))
	there := figures(t)
	for _, key := range []string{"checks_total user_not_found database stale", "checks_total   unknown", "responses_total unavailable", "responses_total redirect", "rescues_total", "sign_ins_total"} {
		if _, known := there[key]; !known {
			t.Errorf("there is no %s: %v", key, there)
		}
	}
	if resets(there) != 0 || !slices.ContainsFunc(slices.Collect(maps.Keys(there)), func(key string) bool { return strings.HasPrefix(key, "epochs_total ") }) {
		t.Errorf("no resets of 0: %v", there)
	}
}
