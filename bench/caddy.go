package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// caddyProcess is a running Caddy.
type caddyProcess struct {
	cmd     *exec.Cmd
	address string
}

// startCaddy starts bin/caddy with a directive before the app, and waits until
// it answers.
func startCaddy(ctx context.Context, dir, name, directive, app string, environment []string) (*caddyProcess, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, name+".Caddyfile")
	text := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tlog {\n\t\tlevel ERROR\n\t}\n}\n\nhttp://%s {\n\tbind 127.0.0.1\n\t%s\n\treverse_proxy %s\n}\n", address, directive, app)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	c := &caddyProcess{cmd: exec.CommandContext(ctx, "bin/caddy", "run", "--config", config, "--adapter", "caddyfile"), address: address}
	c.cmd.Env, c.cmd.Stderr = environment, os.Stderr
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: run `make build` first", err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", http.NoBody)
		if err != nil {
			return nil, err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			return c, response.Body.Close()
		}
		if time.Now().After(deadline) {
			c.stop()
			return nil, fmt.Errorf("caddy (%s) does not answer: %w", name, err)
		}
	}
}

// stop ends the process.
func (c *caddyProcess) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	_ = c.cmd.Wait() // it was told to end
}

// cpu is the time that the process has computed so far.
func (c *caddyProcess) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("CPU time is read from /proc, on Linux: %w", err)
	}
	return parseStat(string(text))
}

// parseStat reads the user and system time of proc_pid_stat(5), in ticks of
// which there are 100 a second on Linux.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("the process's statistics are malformed: %q", text)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
