// Package pgtest runs Postgres servers in temporary directories, for tests, the demo
// and benchmarks.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/ports"
)

// Server is a Postgres server. Its superuser is postgres, without a password.
type Server struct {
	bin, dir string
	port     int
	owner    *syscall.Credential
	settings []string

	copies string // the clause of CREATE DATABASE for the strategy that takes less time

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}

	databases atomic.Int64
}

// Start creates a server with settings such as max_connections=10, and waits until
// it answers.
func Start(ctx context.Context, settings ...string) (*Server, error) {
	bin, err := Find(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, settings: settings}
	if err := s.init(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// StartFor starts a server until the end of a test, which fails if that cannot be done.
func StartFor(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := Start(t.Context(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *Server) init(ctx context.Context) error {
	if os.Geteuid() == 0 { // Postgres refuses to run as root
		s.owner = unprivileged()
		if err := os.Chown(s.dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return err
		}
	}
	if err := s.initdb(ctx); err != nil {
		return err
	}
	return s.start(ctx)
}

func (s *Server) initdb(ctx context.Context) error {
	return s.run(ctx, "initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
}

// run runs a program of the server.
func (s *Server) run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	cmd.SysProcAttr = s.attributes()
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// start starts the server, on another port if one is in use.
func (s *Server) start(ctx context.Context) error {
	var err error
	for range 5 {
		if s.port == 0 {
			if s.port, err = ports.Free(ctx); err != nil {
				return err
			}
		}
		if err = s.launch(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		s.port = 0
	}
	return err
}

// launch starts the process of the server, and waits until it answers.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{
		"-D", s.data(), "-k", s.dir, "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "shared_buffers=16MB", "-c", "max_connections=200", "-c", "timezone=UTC", "-c", "dynamic_shared_memory_type=mmap",
	}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), args...) //nolint:noctx // it outlives the context
	cmd.SysProcAttr = s.attributes()
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = log, log
	ended := make(chan struct{})
	started := make(chan error)
	go superviseProcess(cmd, started, ended)
	if err := <-started; err != nil {
		return err
	}
	s.mu.Lock()
	s.process, s.ended = cmd, ended
	s.mu.Unlock()
	return s.await(ctx, ended)
}

// await waits until the server answers, or ends.
func (s *Server) await(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.DSN("postgres"))
		if err == nil {
			if version, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), "."); s.copies == "" && version >= "15" {
				s.copies = " strategy file_copy" // the only one before
			}
			return conn.Close(ctx)
		}
		select {
		case <-ended:
			return fmt.Errorf("the server exited: %s", s.Log())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the server does not answer: %w", err), s.Stop())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// DSN returns the address of a database.
func (s *Server) DSN(database string) string {
	return "postgres://postgres@" + s.Address() + "/" + database + "?sslmode=disable"
}

// Address returns the host and port of the server.
func (s *Server) Address() string {
	return ports.Loopback(s.port)
}

// Exec runs SQL commands in a database.
func (s *Server) Exec(ctx context.Context, database string, commands ...string) error {
	conn, err := pgx.Connect(ctx, s.DSN(database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, command := range commands {
		if _, err := conn.Exec(ctx, command); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
	}
	return nil
}

// LogFile returns the path of the log.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "log") }

// Log returns the content of the log.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.LogFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Stop stops the server like an administrator (fast shutdown): connections are
// closed.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

// Kill stops the server at once, like a crash.
func (s *Server) Kill() error { return s.end(syscall.SIGQUIT) }

func (s *Server) end(signal syscall.Signal) error {
	s.mu.Lock()
	process, ended := s.process, s.ended
	s.process = nil
	s.mu.Unlock()
	if process == nil {
		return nil
	}
	if err := process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("the server does not exit"), process.Process.Kill())
	}
}

// Restart stops the server, and starts it with the same data on the same port.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Replace stops the server, and starts an empty one on the same port.
func (s *Server) Replace(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	if err := os.RemoveAll(s.data()); err != nil {
		return err
	}
	if err := s.initdb(ctx); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Run runs a program of the server, such as pg_dump, on a database.
func (s *Server) Run(ctx context.Context, program, database string, args ...string) error {
	return s.run(ctx, program, append([]string{"--dbname", s.DSN(database)}, args...)...)
}

// File returns a path that the programs of the server can write to.
func (s *Server) File(name string) string { return filepath.Join(s.dir, name) }

// Close stops the server and removes its files.
func (s *Server) Close() error {
	return errors.Join(s.Stop(), os.RemoveAll(s.dir))
}

// supervise starts a process and waits until it exits.
func supervise(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	err := cmd.Start()
	started <- err
	if err == nil {
		_ = cmd.Wait() // the exit code does not matter
	}
	close(ended)
}

// NewDatabase creates an empty database and returns its name.
func (s *Server) NewDatabase(ctx context.Context) (string, error) {
	name := "db" + strconv.FormatInt(s.databases.Add(1), 10)
	return name, s.Exec(ctx, "postgres", "create database "+name+s.copies)
}

// Main runs the tests of a package with a server, and returns the exit code for
// TestMain. On a slow machine, a query may take longer than in production.
func Main(run func(*Server) int) int {
	deadline.Query, deadline.Connect = time.Minute, time.Minute
	server, err := Start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := run(server)
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Pause stops all processes of the server (SIGSTOP), like a machine that hangs:
// connections stay open, but nothing answers. Resume continues them.
func (s *Server) Pause(ctx context.Context) (resume func() error, err error) {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select pid from pg_stat_activity where pid <> pg_backend_pid()")
	if err != nil {
		return nil, err
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	pids = append([]int{s.process.Process.Pid}, pids...) // the postmaster first, so that it starts no more
	s.mu.Unlock()
	signal := func(s syscall.Signal) error {
		for _, pid := range pids {
			if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		return nil
	}
	return func() error { return signal(syscall.SIGCONT) }, signal(syscall.SIGSTOP)
}
