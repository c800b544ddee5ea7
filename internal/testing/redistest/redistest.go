// Package redistest runs Redis or Valkey servers, with Sentinels, in a cluster or
// with TLS, for tests and benchmarks.
package redistest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/ports"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/selfsigned"
)

// Server is a Redis server or a Sentinel.
type Server struct {
	program, dir string
	port         int
	config       []string
	certificate  *selfsigned.Certificate // nil without TLS

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
}

// program returns the path of the program that STALE_SESSION_TEST_REDIS names, or of
// the installed Redis or Valkey.
func program() (path string, err error) {
	names := []string{"redis-server", "valkey-server"}
	if named := os.Getenv("STALE_SESSION_TEST_REDIS"); named != "" {
		names = []string{named}
	}
	for _, name := range names {
		if path, err = exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: run make setup", err)
}

// Start starts a server without persistence, and waits until it answers. Settings
// are lines of redis.conf, such as "maxmemory 10mb".
func Start(ctx context.Context, settings ...string) (*Server, error) {
	return start(ctx, append([]string{`save ""`, "appendonly no", "repl-diskless-sync-delay 0"}, settings...))
}

// Replica starts a replica of the server.
func (s *Server) Replica(ctx context.Context, settings ...string) (*Server, error) {
	return Start(ctx, append(settings, fmt.Sprintf("replicaof 127.0.0.1 %d", s.port))...)
}

// Sentinel starts a Sentinel that monitors the server by the name "users", and fails
// over to a replica within about a second.
func (s *Server) Sentinel(ctx context.Context) (*Server, error) {
	return start(ctx, []string{
		"sentinel resolve-hostnames no",
		fmt.Sprintf("sentinel monitor users 127.0.0.1 %d 1", s.port),
		"sentinel down-after-milliseconds users 500",
		"sentinel failover-timeout users 3000",
	}, "--sentinel")
}

func start(ctx context.Context, config []string, flags ...string) (*Server, error) {
	s, err := create(config)
	if err != nil {
		return nil, err
	}
	if err := s.begin(ctx, "port", flags...); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// create returns a server that is not running.
func create(config []string) (*Server, error) {
	path, err := program()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redis")
	return &Server{program: path, dir: dir, config: config}, err
}

// begin starts the server on a free port, which the named setting sets.
func (s *Server) begin(ctx context.Context, setting string, flags ...string) (err error) {
	for range 5 { // on another port if one is in use
		if s.port, err = ports.Free(ctx); err != nil {
			return err
		}
		lines := append([]string{"bind 127.0.0.1", "protected-mode no", "daemonize no", "dir " + s.dir, setting + " " + strconv.Itoa(s.port)}, s.config...)
		if err = os.WriteFile(s.configFile(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			return err
		}
		if err = s.launch(ctx, flags...); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (s *Server) configFile() string { return filepath.Join(s.dir, "redis.conf") }

// launch starts the process of the server, and waits until it answers.
func (s *Server) launch(ctx context.Context, flags ...string) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.program, append([]string{s.configFile()}, flags...)...) //nolint:noctx // it outlives the context
	cmd.SysProcAttr = attributes()
	cmd.Stdout, cmd.Stderr = log, log
	ended, started := make(chan struct{}), make(chan error)
	go supervise(cmd, started, ended)
	if err := <-started; err != nil {
		return err
	}
	s.mu.Lock()
	s.process, s.ended = cmd, ended
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if text, err := s.Do(ctx, "PING"); err == nil && !strings.HasPrefix(text, "-LOADING") {
			return nil
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("the server exited: %s", bytes.TrimSpace(text))
		case <-ctx.Done():
			return errors.Join(errors.New("the server does not answer"), s.Kill())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Do sends a command, and returns the answer as sent, up to 64 KiB.
func (s *Server) Do(ctx context.Context, words ...string) (string, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // without a deadline if it fails
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := conn.Write(b.Bytes()); err != nil {
		return "", err
	}
	answer := make([]byte, 64<<10)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	if s.certificate == nil {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", s.Address())
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: s.roots()}}
	return dialer.DialContext(ctx, "tcp", s.Address())
}

// Address returns the host and port of the server.
func (s *Server) Address() string { return ports.Loopback(s.port) }

// URL returns the URL of the server.
func (s *Server) URL() string {
	if s.certificate != nil {
		return "rediss://" + s.Address()
	}
	return "redis://" + s.Address()
}

// Kill stops the server at once, like a crash.
func (s *Server) Kill() error {
	s.mu.Lock()
	process, ended := s.process, s.ended
	s.process = nil
	s.mu.Unlock()
	if process == nil {
		return nil
	}
	if err := process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-ended
	return nil
}

// Pause stops the process of the server (SIGSTOP), like a machine that hangs.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume continues a paused server.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return os.ErrProcessDone
	}
	return s.process.Process.Signal(signal)
}

// Restart kills the server, and starts it on the same port. Its data is lost, unless
// the settings enable persistence.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Kill(); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Close stops the server and removes its files.
func (s *Server) Close() error { return errors.Join(s.Kill(), os.RemoveAll(s.dir)) }

// supervise starts a process and waits until it exits, on a thread of its own:
// Pdeathsig is sent when the thread that started the process ends.
func supervise(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	started <- err
	if err == nil {
		_ = cmd.Wait() // the exit code does not matter
	}
	close(ended)
}
