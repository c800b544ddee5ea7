package caddytest

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// Operator asks the admin endpoint of a Caddy that stores its files for itself.
type Operator struct {
	// Address is that of the admin endpoint, and Config returns a Caddyfile that has it.
	Address string
	Config  func(directives ...string) string

	t *testing.T
}

// NewOperator returns the operator of a Caddy that a configuration of its Config starts.
func NewOperator(t *testing.T) *Operator {
	dir, err := os.MkdirTemp("", "admin") // short, for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := &Operator{t: t, Address: "unix/" + filepath.Join(dir, "admin")}
	o.Config = func(directives ...string) string {
		return strings.Replace(Site(directives...), "admin off", "admin "+o.Address+"\n\tstorage file_system "+filepath.Join(dir, "storage"), 1)
	}
	return o
}

// OperatorAt returns the operator of the Caddy whose admin endpoint has an address.
func OperatorAt(t *testing.T, address string) *Operator { return &Operator{Address: address, t: t} }

// Do asks, and reads the answer. The status of a refusal is in the text.
func (o *Operator) Do(method, path string, body, into any) string {
	o.t.Helper()
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			o.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	response, err := caddycmd.AdminAPIRequest(o.Address, method, "/stale_session/"+path, nil, reader)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			o.t.Fatalf("%v: %s", err, text)
		}
	}
	return string(text)
}

// Object is JSON that is looked into.
type Object = map[string]any
