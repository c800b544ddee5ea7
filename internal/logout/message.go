package logout

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// tokenOf returns the logout token of a request.
func tokenOf(r *http.Request, body []byte) (string, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return "", refusal{"it is no form"}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || len(form["logout_token"]) != 1 {
		return "", refusal{"it has not one logout_token"}
	}
	return form.Get("logout_token"), nil
}

// seconds reads a NumericDate.
func seconds(claim any) (time.Time, bool) {
	number, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	value, err := number.Float64()
	if err != nil || !(value > 0 && value < 1e11) {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(value * 1e6)), true
}

// contains tells whether an aud claim is or contains an audience.
func contains(claim any, audience string) bool {
	if list, ok := claim.([]any); ok {
		return slices.Contains(list, any(audience))
	}
	return claim == audience
}
