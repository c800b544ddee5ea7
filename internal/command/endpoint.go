package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// endpoint is the admin endpoint of the running Caddy, given by flags.
type endpoint struct{ address, config, adapter string }

func (e *endpoint) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.address, "address", "", "The address of Caddy's admin endpoint (default: from the configuration, else localhost:2019)")
	cmd.Flags().StringVarP(&e.config, "config", "c", "", "The Caddy configuration with the address of the admin endpoint")
	cmd.Flags().StringVarP(&e.adapter, "adapter", "a", "", "The adapter of the configuration")
}

// find returns the address of the endpoint.
func (e *endpoint) find() (string, error) {
	var config []byte
	if e.address == "" && e.config != "" {
		var err error
		if config, err = adapt(e.config, e.adapter); err != nil {
			return "", err
		}
	}
	return caddycmd.DetermineAdminAPIAddress(e.address, config, e.config, e.adapter)
}

// do sends a request with a JSON body, unless it is nil, and decodes the response.
func (e *endpoint) do(method, path string, body, into any) error {
	address, err := e.find()
	if err != nil {
		return err
	}
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(text)
	}
	response, err := caddycmd.AdminAPIRequest(address, method, path, nil, reader)
	if err != nil {
		return fmt.Errorf("asking the running Caddy at %s: %w", address, err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("%s is not Caddy's admin endpoint: %w", address, err)
	}
	return nil
}

func (e *endpoint) get(path string, into any) error {
	return e.do(http.MethodGet, path, nil, into)
}

func (e *endpoint) post(path string, body, into any) error {
	return e.do(http.MethodPost, path, body, into)
}
