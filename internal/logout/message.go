package logout

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
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

// Webhook is messages that are signed with a secret, as Standard Webhooks has
// it: HMAC-SHA256 of id, timestamp and body.
type Webhook struct{ keys [][]byte }

// NewWebhook returns the messages of secrets; several while one is rotated. One
// that begins with whsec_ is base64, as Standard Webhooks writes them.
func NewWebhook(secrets []string) (Webhook, error) {
	var w Webhook
	for _, secret := range secrets {
		key := []byte(secret)
		if encoded, ok := strings.CutPrefix(secret, "whsec_"); ok {
			var err error
			if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
				return w, errors.New("a secret that begins with whsec_ is not base64")
			}
		}
		if len(key) < 24 {
			return w, errors.New("a secret has fewer than 24 bytes: make one with `openssl rand -base64 32`")
		}
		w.keys = append(w.keys, key)
	}
	if len(w.keys) == 0 {
		return w, errors.New("the secret is missing")
	}
	return w, nil
}

// message is the body of a webhook: one of its ids.
type message struct {
	Subject string `json:"subject"`
	Session string `json:"session"`
	Token   string `json:"token"`
}

// Read implements Source.
func (w Webhook) Read(r *http.Request, body []byte, now time.Time) (revoked revocation.Revocation, id string, err error) {
	id, stamp := r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp")
	sent, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || id == "" || len(id) > revocation.MaxID {
		return revoked, "", refusal{"Webhook-Id or Webhook-Timestamp is missing"}
	}
	at := time.Unix(sent, 0)
	if at.After(now.Add(tolerance)) || now.Sub(at) > maxAge {
		return revoked, "", refusal{"Webhook-Timestamp is not of now"}
	}
	if !w.signed(r.Header.Values("Webhook-Signature"), id, stamp, body) {
		return revoked, "", refusal{"Webhook-Signature is not that of the secret"}
	}
	var m message
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return revoked, "", refusal{`the body is not {"subject":…}, {"session":…} or {"token":…}`}
	}
	revoked = revocation.Revocation{Subject: m.Subject, Session: m.Session, Token: m.Token, At: at}
	if err := revoked.Check(); err != nil {
		return revoked, "", refusal{err.Error()}
	}
	return revoked, id, nil
}

// signed tells whether any signature is that of a key.
func (w Webhook) signed(fields []string, id, stamp string, body []byte) bool {
	var signatures [][]byte
	for _, one := range strings.Fields(strings.Join(fields, " ")) {
		if encoded, ok := strings.CutPrefix(one, "v1,"); ok && len(signatures) < 8 {
			if signature, err := base64.StdEncoding.DecodeString(encoded); err == nil {
				signatures = append(signatures, signature)
			}
		}
	}
	for _, key := range w.keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + stamp + "."))
		mac.Write(body)
		sum := mac.Sum(nil)
		for _, signature := range signatures {
			if hmac.Equal(signature, sum) {
				return true
			}
		}
	}
	return false
}
