package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// monitoring is where the examples are.
const monitoring = "../../examples/monitoring/"

// promtool runs Prometheus's tool, which is to find nothing wrong.
func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin, cmd.Dir = strings.NewReader(input), monitoring
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// scrape is what Prometheus gets of the module from a Caddy that was used.
func scrape(t *testing.T) string {
	t.Helper()
	database := standardapp.NewDatabase(t)
	base := caddytest.Start(t, caddytest.Site("metrics /metrics", "stale_session {", "	poll 20ms", "}", caddytest.NewApp(t).Proxy()))
	for _, cookie := range []string{standardapp.Session(t, "live"), standardapp.Session(t, "live"), standardapp.Session(t, "deleted"), standardapp.CookieName + "=x", "a=b"} {
		_ = caddytest.Ask(t, base, cookie)
	}
	standardapp.Execute(t, database, `alter table "User" rename to "Other"`)
	var text strings.Builder
	eventually.Holds(t, "a lookup has failed", func() bool {
		_ = caddytest.Ask(t, base, standardapp.Session(t, "somebody"))
		text.Reset()
		for line := range strings.Lines(caddytest.Do(t, http.MethodGet, base+"/metrics", nil).Text) {
			if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "caddy_stale_session_") {
				text.WriteString(line)
			}
		}
		return strings.Contains(text.String(), `state="failing"} 1`)
	})
	return text.String()
}

func TestPromtoolFindsNothingInAScrape(t *testing.T) {
	text := scrape(t)
	if !strings.Contains(text, "caddy_stale_session_checks_total{") {
		t.Fatalf("no metrics: %s", text)
	}
	promtool(t, text, "check", "metrics")
}

func TestTheAlertsComeWhenTheyShould(t *testing.T) {
	promtool(t, "", "check", "config", "prometheus.yml")
	promtool(t, "", "check", "rules", "alerts.yml")
	promtool(t, "", "test", "rules", "alerts_test.yml")
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEachAlertIsTestedAndExplained keeps the rules, their tests, and the page
// for who is on call together.
func TestEachAlertIsTestedAndExplained(t *testing.T) {
	tests, page := read(t, monitoring+"alerts_test.yml"), read(t, "../../docs/operations.md")
	var alerts []string
	for _, found := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, monitoring+"alerts.yml"), -1) {
		alerts = append(alerts, found[1])
		for _, text := range []string{found[1] + " comes\n", found[1] + " does not come: "} {
			if !strings.Contains(tests, text) {
				t.Errorf("no test says that %s", text)
			}
		}
		if link := "docs/operations.md#" + strings.ToLower(found[1]) + "\n"; !strings.Contains(read(t, monitoring+"alerts.yml"), link) {
			t.Errorf("no runbook_url leads to %s", link)
		}
	}
	var explained []string
	for _, found := range regexp.MustCompile(`(?m)^### (StaleSession\w+)$`).FindAllStringSubmatch(page, -1) {
		explained = append(explained, found[1])
	}
	slices.Sort(alerts)
	slices.Sort(explained)
	if len(alerts) == 0 || !slices.Equal(alerts, explained) {
		t.Errorf("the alerts are %v; explained are %v", alerts, explained)
	}
}

// queries are those of the dashboard, with the variables filled in.
func queries(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Title  string
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr string }
		}
		Annotations struct{ List []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(read(t, monitoring+"grafana.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$database", ".*")
	ids := make(map[int]bool)
	var all []string
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] || panel.Title == "" || panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("panel %d %q: doubled, without a title or without a query", panel.ID, panel.Title)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			all = append(all, fill.Replace(target.Expr))
		}
	}
	for _, annotation := range dashboard.Annotations.List {
		all = append(all, fill.Replace(annotation.Expr))
	}
	if len(all) < 20 {
		t.Errorf("only %d queries", len(all))
	}
	return all
}

// TestTheDashboardsQueriesCanBeRead has promtool read them, as rules.
func TestTheDashboardsQueriesCanBeRead(t *testing.T) {
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	type group struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	}
	var rules []rule
	for i, query := range queries(t) {
		rules = append(rules, rule{fmt.Sprintf("query:%d", i), query})
	}
	text, err := json.Marshal(map[string]any{"groups": []group{{"dashboard", rules}}}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", file)
}

var (
	selector = regexp.MustCompile(`(caddy_stale_session_\w+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!=|=)\s*"([^"]*)"`)
)

// TestTheExamplesAskForWhatThereIs compares metrics, labels and values of rules
// and dashboard with a real scrape.
func TestTheExamplesAskForWhatThereIs(t *testing.T) {
	there := make(map[string]map[string][]string) // values by metric and label
	for line := range strings.Lines(scrape(t)) {
		found := selector.FindStringSubmatch(line)
		if strings.HasPrefix(line, "#") || found == nil {
			continue
		}
		if there[found[1]] == nil {
			there[found[1]] = make(map[string][]string)
		}
		for _, label := range matcher.FindAllStringSubmatch(found[2], -1) {
			there[found[1]][label[1]] = append(there[found[1]][label[1]], label[2])
		}
	}
	asked := make(map[string]bool)
	for _, text := range append(queries(t), read(t, monitoring+"alerts.yml")) {
		for _, found := range selector.FindAllStringSubmatch(text, -1) {
			labels, known := there[found[1]]
			if !known {
				t.Errorf("there is no %s: %s", found[1], text)
			}
			asked[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(found[1], "_bucket"), "_count"), "_sum")] = true
			for _, label := range matcher.FindAllStringSubmatch(found[2], -1) {
				if label[1] == "instance" || label[2] == ".*" { // Prometheus's own
					continue
				}
				for value := range strings.SplitSeq(label[2], "|") {
					if value != "" && !slices.Contains(labels[label[1]], value) {
						t.Errorf("no %s has %s=%q: %s", found[1], label[1], value, text)
					}
				}
			}
		}
	}
	for name := range maps.Keys(there) {
		name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
		if !asked[name] {
			t.Errorf("%s is neither on the dashboard nor in a rule", name)
		}
	}
}

// BenchmarkAScrape is how long a scrape takes of a Caddy that knows many users.
func BenchmarkAScrape(b *testing.B) {
	const people = 10_000
	database := standardapp.NewDatabase(b)
	standardapp.Execute(b, database, fmt.Sprintf(`insert into "User" select 'p' || g from generate_series(1, %d) g`, people))
	base := caddytest.Start(b, caddytest.Site("metrics /metrics", "stale_session /guarded", caddytest.NewApp(b).Proxy()))
	for i := range people {
		if status := caddytest.Ask(b, base+"/guarded", standardapp.Session(b, fmt.Sprintf("p%d", i+1))); status != http.StatusOK {
			b.Fatalf("status %d", status)
		}
	}
	for b.Loop() {
		if text := caddytest.Do(b, http.MethodGet, base+"/metrics", nil).Text; !strings.Contains(text, "caddy_stale_session_build_info") {
			b.Fatal(text)
		}
	}
}
