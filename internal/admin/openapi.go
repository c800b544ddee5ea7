package admin

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var description []byte

// openAPI describes the API (OpenAPI 3.1).
func (*Panel) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(description)
	return err
}
