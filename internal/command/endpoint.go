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

// endpoint is the admin endpoint of the running Caddy.
type endpoint struct{ address, config, adapter string }

func (e *endpoint) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.address, "address", "", "The address of Caddy's admin endpoint (default: that of the configuration, else localhost:2019)")
	cmd.Flags().StringVarP(&e.config, "config", "c", "", "The Caddy configuration that names the admin endpoint")
	cmd.Flags().StringVarP(&e.adapter, "adapter", "a", "", "The adapter of the configuration")
}

// ask asks the endpoint, and reads its answer.
func (e *endpoint) ask(method, path string, question, answer any) error {
	address, err := caddycmd.DetermineAdminAPIAddress(e.address, nil, e.config, e.adapter)
	if err != nil {
		return err
	}
	var body io.Reader
	if question != nil {
		text, err := json.Marshal(question)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	response, err := caddycmd.AdminAPIRequest(address, method, path, nil, body)
	if err != nil {
		return fmt.Errorf("asking the running Caddy at %s: %w", address, err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("what answers at %s is not Caddy's admin endpoint: %w", address, err)
	}
	return nil
}

// get is ask without a question.
func (e *endpoint) get(path string, answer any) error {
	return e.ask(http.MethodGet, path, nil, answer)
}

// post is ask with one.
func (e *endpoint) post(path string, question, answer any) error {
	return e.ask(http.MethodPost, path, question, answer)
}
