package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/ports"
)

// Pooler is a running PgBouncer in transaction mode.
type Pooler struct {
	dir      string
	port     int
	database string
	process  *exec.Cmd
	ended    chan struct{}
}

// Pooler starts a PgBouncer in front of a database, with two connections to the
// server. Like PgBouncer by default, it rejects most startup parameters.
func (s *Server) Pooler(ctx context.Context, database string) (*Pooler, error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // on Debian, where only root has it in PATH
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("no PgBouncer is installed: run make setup: %w", err)
	}
	for range 5 { // on another port if one is in use
		var p *Pooler
		if p, err = s.startPooler(ctx, program, database); err == nil {
			return p, nil
		}
	}
	return nil, err
}

func (s *Server) startPooler(ctx context.Context, program, database string) (*Pooler, error) {
	port, err := ports.Free(ctx)
	if err != nil {
		return nil, err
	}
	p := &Pooler{port: port, database: database, ended: make(chan struct{})}
	if p.dir, err = os.MkdirTemp("", "pgb"); err != nil {
		return nil, err
	}
	file, log := filepath.Join(p.dir, "pgbouncer.ini"), filepath.Join(p.dir, "log")
	config := fmt.Sprintf(`[databases]
%s = host=127.0.0.1 port=%d user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
`, database, s.port, port)
	err = errors.Join(os.Chmod(p.dir, 0o755), os.WriteFile(file, []byte(config), 0o644)) // it runs as another user
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	output, err := os.Create(log)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	defer output.Close()
	cmd := exec.Command(program, file) //nolint:noctx // it outlives the context
	cmd.SysProcAttr = s.attributes()
	cmd.Stdout, cmd.Stderr = output, output
	started := make(chan error)
	go superviseProcess(cmd, started, p.ended)
	if err := <-started; err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.process = cmd
	if err := p.await(ctx); err != nil {
		text, _ := os.ReadFile(log)
		return nil, errors.Join(fmt.Errorf("%w: %s", err, text), p.Close())
	}
	return p, nil
}

// await waits until PgBouncer answers, or ends.
func (p *Pooler) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, p.DSN())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.ended:
			return errors.New("PgBouncer exited")
		case <-ctx.Done():
			return fmt.Errorf("PgBouncer does not answer: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// DSN returns the address of the database through PgBouncer.
func (p *Pooler) DSN() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", p.port, p.database)
}

// Close kills PgBouncer and removes its files.
func (p *Pooler) Close() error {
	var err error
	if p.process != nil {
		if err = p.process.Process.Kill(); errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		<-p.ended
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}
