package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// Standby starts a server that follows this one, as a hot standby. It copies the
// data directory, for which it restarts this server: not every installation has
// pg_basebackup.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	standby := &Server{bin: s.bin, dir: dir, settings: s.settings, owner: s.owner}
	if err := s.copyTo(ctx, standby); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	if err := standby.start(ctx); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}

// copyTo copies the data directory to a standby, and configures that.
func (s *Server) copyTo(ctx context.Context, standby *Server) error {
	if err := s.Stop(); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "cp", "-a", s.data(), standby.data()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	if err := s.launch(ctx); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.Address())
	if err != nil {
		return err
	}
	settings, err := os.OpenFile(filepath.Join(standby.data(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(settings, "primary_conninfo = 'host=%s port=%s user=postgres'\n", host, port)
	signal := filepath.Join(standby.data(), "standby.signal")
	err = errors.Join(err, settings.Close(), os.WriteFile(signal, nil, 0o600))
	if s.owner != nil {
		err = errors.Join(err, os.Chown(standby.dir, int(s.owner.Uid), int(s.owner.Gid)), os.Chown(signal, int(s.owner.Uid), int(s.owner.Gid)))
	}
	return err
}
