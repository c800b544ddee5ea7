package signals

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// maxBody is the longest request body, in bytes.
	maxBody = 64 << 10
	// bodyTimeout is how long a body may take to arrive.
	bodyTimeout = 10 * time.Second
	// applyTimeout is how long it may take to find users.
	applyTimeout = 5 * time.Second
)

// failure is an answer that is no success.
type failure struct {
	status      int
	code        string // of the error, as the specification of the endpoint calls it
	description string
	cause       error // for the log; nil if that is the description
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.cause.Error()
	}
	return f.description
}

func invalid(description string) *failure {
	return &failure{status: http.StatusBadRequest, code: "invalid_request", description: description}
}

func unavailable(cause error) *failure {
	return &failure{http.StatusServiceUnavailable, "temporarily_unavailable", "try again later", cause}
}

// errNotFound is the failure that the app has no such user.
var errNotFound = &failure{status: http.StatusNotFound, code: "not_found", description: "there is no such user"}

// errMethod is the error of a request that is no POST.
var errMethod = errors.New("the method is not POST")

// answer answers a request as what accept returns says: with a status, or by refuse. No
// answer is stored.
func answer(w http.ResponseWriter, r *http.Request, status int, refuse func(http.ResponseWriter, *failure), accept func() (Result, *failure)) Result {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return Result{Err: errMethod, Refused: true}
	}
	result, failed := accept()
	if failed == nil {
		w.WriteHeader(status)
		return result
	}
	again := failed.status == http.StatusServiceUnavailable
	if again {
		w.Header().Set("Retry-After", "5")
	}
	refuse(w, failed)
	return Result{Err: failed, NotFound: failed == errNotFound, Refused: !again}
}

// refuse answers with an error of OAuth 2.0.
func refuse(w http.ResponseWriter, failed *failure) {
	writeJSON(w, failed.status, map[string]string{"error": failed.code, "error_description": failed.description})
}

func writeJSON(w http.ResponseWriter, status int, object map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object) // fails if the client disconnected
}

var errTooLong = fmt.Errorf("the body is longer than %d bytes", maxBody)

// readBody reads the body of a request, which may neither be long nor take longer than a
// timeout.
func readBody(w http.ResponseWriter, r *http.Request, timeout time.Duration) ([]byte, error) {
	control := http.NewResponseController(w)
	bounded := control.SetReadDeadline(time.Now().Add(timeout)) == nil
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if bounded && err == nil { // else what follows is not waited for either
		err = control.SetReadDeadline(time.Time{})
	}
	if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
		return nil, errTooLong
	}
	if err != nil {
		return nil, errors.New("the body cannot be read, or takes too long")
	}
	return body, nil
}

// same compares a secret in constant time.
func same(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
