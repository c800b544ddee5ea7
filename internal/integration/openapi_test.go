package integration

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/caddytest"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/standardapp"
)

// description is the OpenAPI document of the admin API, which has to be valid.
// Properties that it does not name are not allowed.
func description(t *testing.T, o *caddytest.Operator) *openapi3.T {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData([]byte(o.Do("GET", "openapi.json", nil, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, schema := range document.Components.Schemas {
		closeSchema(schema.Value)
	}
	return document
}

func closeSchema(s *openapi3.Schema) {
	if len(s.Properties) > 0 && s.AdditionalProperties.Schema == nil {
		no := false
		s.AdditionalProperties.Has = &no
	}
	for _, property := range s.Properties {
		closeSchema(property.Value)
	}
	if s.Items != nil {
		closeSchema(s.Items.Value)
	}
}

// TestTheAPIIsAsDescribed asks for everything that the document has.
func TestTheAPIIsAsDescribed(t *testing.T) {
	database := standardapp.NewDatabase(t)
	standardapp.Execute(t, database, `alter table "User" add column "createdAt" timestamptz default now()`)
	o := caddytest.NewOperator(t)
	base := caddytest.Start(t, o.Config("stale_session /a* {", "	poll 20ms", "	users {", "		created_at createdAt", "	}", "}", "stale_session /b* {", "	mode off", "}", caddytest.NewApp(t).Proxy()))
	document := description(t, o)
	live := standardapp.TokenOf(t, "live", -time.Minute)
	_ = caddytest.Ask(t, base+"/a", live)
	eventually.Holds(t, "the database is watched", func() bool { return strings.Contains(o.Do("GET", "status", nil, nil), `"watched":true`) })
	standardapp.Execute(t, database, `truncate "User"`, `insert into "User" values ('live')`)
	eventually.Holds(t, "the reset is noticed", func() bool { return strings.Contains(o.Do("GET", "status", nil, nil), `"reset_at"`) })
	_ = caddytest.Ask(t, base+"/a", standardapp.Session(t, "deleted"))

	bodies := map[string][]caddytest.Object{ // in this order
		"revoke":  {{"subject": "live"}},
		"check":   {{"subject": "live"}, {"cookies": live}, {"token": "x"}},
		"restore": {{"subject": "live"}},
	}
	asked := make(map[string]bool)
	for _, name := range []string{"openapi.json", "flush", "revoke", "status", "history", "check", "restore"} {
		asked["/stale_session/"+name] = true
		path := document.Paths.Find("/stale_session/" + name)
		if path == nil {
			t.Errorf("%s is not described", name)
			continue
		}
		method, operation := http.MethodGet, path.Get
		if path.Post != nil {
			method, operation = http.MethodPost, path.Post
		}
		inputs := bodies[name]
		if len(inputs) == 0 {
			inputs = []caddytest.Object{nil}
		}
		for _, input := range inputs {
			var body any
			if input != nil {
				body = input
				fits(t, name+" takes", operation.RequestBody.Value.Content["application/json"].Schema, []byte(encoded(t, input)))
			}
			fits(t, name, operation.Responses.Status(http.StatusOK).Value.Content["application/json"].Schema, []byte(o.Do(method, name, body, nil)))
		}
	}
	asked["/stale_session/events"] = true
	events := 0
	for _, data := range past(t, o) {
		events++
		fits(t, "events", document.Paths.Find("/stale_session/events").Get.Responses.Status(http.StatusOK).Value.Content["text/event-stream"].Schema, []byte(data))
	}
	if events == 0 {
		t.Error("there are no events")
	}

	// What the source says that there is, is described and asked for.
	var said []string
	for _, found := range regexp.MustCompile(`(?m)^//\t(?:GET |POST) (/stale_session/[\w.]+)`).FindAllStringSubmatch(read(t, "../admin/admin.go"), -1) {
		said = append(said, found[1])
	}
	slices.Sort(said)
	for what, paths := range map[string][]string{"described": slices.Sorted(maps.Keys(document.Paths.Map())), "asked for": slices.Sorted(maps.Keys(asked))} {
		if !slices.Equal(paths, said) {
			t.Errorf("%s are %v; there are %v", what, paths, said)
		}
	}
}

// fits checks JSON against a schema.
func fits(t *testing.T, what string, schema *openapi3.SchemaRef, text []byte) {
	t.Helper()
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Errorf("%s: %v: %s", what, err, text)
		return
	}
	if err := schema.Value.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.EnableFormatValidation(), openapi3.MultiErrors()); err != nil {
		t.Errorf("%s: %v: %s", what, err, text)
	}
}

func encoded(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
