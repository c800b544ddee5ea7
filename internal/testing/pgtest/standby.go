package pgtest

import (
	"context"
	"errors"
	"net"
	"os"
)

// Standby starts a hot standby of the server.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	standby := &Server{bin: s.bin, dir: dir, settings: s.settings, owner: s.owner}
	if s.owner != nil {
		if err := os.Chown(dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return nil, errors.Join(err, standby.Close())
		}
	}
	host, port, err := net.SplitHostPort(s.Address())
	if err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	err = s.run(ctx, "pg_basebackup", "-h", host, "-p", port, "-U", "postgres", "-D", standby.data(), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	if err == nil {
		err = standby.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}
