package admin

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/seed-4adef13c/caddy-stale-session/internal/telemetry"
)

// description is the OpenAPI document without the schema of the counters.
//
//go:embed openapi.json
var description []byte

// openAPI serves the OpenAPI 3.1 document of the API.
func (*Panel) openAPI(w http.ResponseWriter, _ *http.Request) error {
	document, err := openAPIDocument()
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, document)
}

// document is an OpenAPI document.
type document struct {
	OpenAPI    string          `json:"openapi"`
	Info       json.RawMessage `json:"info"`
	Servers    json.RawMessage `json:"servers"`
	Paths      json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]any `json:"schemas"`
	} `json:"components"`
}

// openAPIDocument returns the document with the schema of the counters, which is
// generated from the list of metrics.
var openAPIDocument = sync.OnceValues(func() (document, error) {
	var d document
	if err := json.Unmarshal(description, &d); err != nil {
		return document{}, fmt.Errorf("reading openapi.json: %w", err)
	}
	d.Components.Schemas["Counters"] = counters(telemetry.Metrics())
	return d, nil
})

// schema is a JSON Schema.
type schema struct {
	Type                 string            `json:"type"`
	Description          string            `json:"description,omitempty"`
	Properties           map[string]schema `json:"properties,omitempty"`
	AdditionalProperties *schema           `json:"additionalProperties,omitempty"`
	Required             []string          `json:"required,omitempty"`
}

var number = schema{Type: "number"}

// counters returns the schema of telemetry.Totals.
func counters(list []telemetry.Metric) schema {
	all := schema{
		Type:        "object",
		Description: "What the counters and histograms among the metrics counted, by name without caddy_stale_session_.",
		Properties:  make(map[string]schema),
	}
	for _, metric := range list {
		total := schema{Type: "object", Description: metric.Help, Properties: map[string]schema{"count": number}, Required: []string{"count"}}
		switch metric.Kind {
		case telemetry.Gauge:
			continue
		case telemetry.Histogram:
			for _, name := range []string{"sum", "p50", "p95"} {
				total.Properties[name] = number
			}
		case telemetry.Counter:
			by := make(map[string]schema)
			for _, label := range metric.Labels {
				by[label] = schema{Type: "object", AdditionalProperties: &number}
			}
			if len(by) > 0 {
				total.Properties["by"] = schema{Type: "object", Properties: by}
			}
		}
		all.Properties[metric.Name] = total
	}
	return all
}
