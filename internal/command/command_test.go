package command

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/admin"
	"github.com/seed-4adef13c/caddy-stale-session/internal/cache"
	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// describe returns a site with the option sign_in of a handler.
func describe(text []byte) (Site, error) {
	var handler struct {
		SignIn string `json:"sign_in"`
	}
	if err := json.Unmarshal(text, &handler); err != nil {
		return Site{}, err
	}
	if handler.SignIn == "bad" {
		return Site{}, errors.New("sign_in is bad")
	}
	return Site{SignIn: handler.SignIn}, nil
}

func TestStatusShowsTheHealth(t *testing.T) {
	for name, c := range map[string]struct {
		of   admin.DatabaseStatus
		says string
	}{
		"no lookup yet": {admin.DatabaseStatus{Health: "ok"}, "health      no lookup yet"},
		"a lookup":      {admin.DatabaseStatus{Health: "ok", Accounts: cache.Stats{Misses: 1}}, "health      ok"},
		"watched":       {admin.DatabaseStatus{Health: "ok", Watched: true}, "health      ok"},
		"lookups fail":  {admin.DatabaseStatus{Health: "failing", Error: "down"}, "health      failing: down"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			writeStatus(&printer{out: &out}, admin.Status{Databases: []admin.DatabaseStatus{c.of}})
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("no %q in: %s", c.says, &out)
			}
		})
	}
}

func TestStatusShowsTheCounters(t *testing.T) {
	totals := telemetry.Totals{
		"checks_total":            {By: map[string]map[string]float64{"verdict": {"live": 7, "stale": 2}, "reason": {"user_disabled": 2, "user_not_found": 0}}},
		"responses_total":         {By: map[string]map[string]float64{"kind": {"json": 1}}},
		"rescues_total":           {Count: 3},
		"upstream_errors_total":   {Count: 4},
		"sign_ins_total":          {Count: 5},
		"lookup_duration_seconds": {Count: 10, Sum: 0.02},
		"lookup_errors_total":     {By: map[string]map[string]float64{"class": {"down": 6}}},
	}
	known := telemetry.Count()
	for name := range totals {
		if _, ok := known[name]; !ok {
			t.Errorf("%s is not in the list of metrics", name)
		}
	}
	var out strings.Builder
	writeStatus(&printer{out: &out}, admin.Status{Counters: totals})
	for _, row := range []string{
		"checks      7 live, 2 stale\n", "stale       2 user_disabled\n", "responses   1 json\n", "rescues     3 of 4 ", "sign-ins    5\n",
		"lookups     10, 2ms on average; failed: 6 down\n",
	} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("no %q in: %s", row, &out)
		}
	}
}

func TestHandlersOfAConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		found  []string
		fails  string
	}{
		"none":              {`{"apps":{"http":{"servers":{"a":{"routes":[{"handle":[{"handler":"static_response"}]}]}}}}}`, nil, ""},
		"null":              {`null`, nil, ""},
		"one":               {`{"handle":[{"handler":"stale_session","sign_in":"/a"}]}`, []string{"/a"}, ""},
		"several sites":     {`{"servers":{"b":[{"handler":"stale_session","sign_in":"/b"}],"a":[{"handler":"stale_session","sign_in":"/a"}]}}`, []string{"/a", "/b"}, ""},
		"in a subroute":     {`[{"handler":"subroute","routes":[{"handle":[{"handler":"vars"},{"handler":"stale_session","sign_in":"/deep"}]}]}]`, []string{"/deep"}, ""},
		"in an error route": {`{"errors":{"routes":[{"handle":[{"handler":"stale_session","sign_in":"/e"}]}]}}`, []string{"/e"}, ""},
		"an invalid one":    {`[{"handler":"stale_session","sign_in":"bad"}]`, []string{""}, "sign_in is bad"},
		"not JSON":          {`stale_session`, nil, "invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			sites, err := commands{describe}.configured([]byte(c.config))
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Fatalf("error %v, want %q", err, c.fails)
			}
			var found []string
			for _, site := range sites {
				found = append(found, site.SignIn)
			}
			if !slices.Equal(found, c.found) {
				t.Errorf("found %q, want %q", found, c.found)
			}
		})
	}
}
