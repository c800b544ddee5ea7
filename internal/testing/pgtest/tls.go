package pgtest

import (
	"context"
	"errors"
	"os"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/selfsigned"
)

// UseTLS makes the server offer TLS. It returns the path of the self-signed
// certificate, in PEM.
func (s *Server) UseTLS(ctx context.Context) (authority string, err error) {
	certificate, err := selfsigned.Write(s.data())
	if err != nil {
		return "", err
	}
	if s.owner != nil {
		uid, gid := int(s.owner.Uid), int(s.owner.Gid)
		if err := errors.Join(os.Chown(certificate.File, uid, gid), os.Chown(certificate.KeyFile, uid, gid)); err != nil {
			return "", err
		}
	}
	s.settings = append(s.settings, "ssl=on")
	return certificate.File, s.Restart(ctx)
}

// AllowOnlyTLS makes the server reject connections without TLS.
func (s *Server) AllowOnlyTLS(ctx context.Context) error {
	if err := os.WriteFile(s.data()+"/pg_hba.conf", []byte("hostssl all all 127.0.0.1/32 trust\n"), 0o600); err != nil {
		return err
	}
	return s.Exec(ctx, "postgres", "select pg_reload_conf()")
}
