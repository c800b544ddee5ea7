package redistest

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/selfsigned"
)

// StartTLS starts a server that only accepts TLS, with a self-signed certificate.
// Settings are lines of redis.conf.
func StartTLS(ctx context.Context, settings ...string) (*Server, error) {
	s, err := create(append([]string{`save ""`, "appendonly no", "port 0"}, settings...))
	if err != nil {
		return nil, err
	}
	s.certificate, err = selfsigned.Write(s.dir)
	if err == nil {
		s.config = append(s.config, "tls-auth-clients no",
			"tls-cert-file "+s.certificate.File, "tls-key-file "+s.certificate.KeyFile, "tls-ca-cert-file "+s.certificate.File)
		err = s.begin(ctx, "tls-port")
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// CAFile returns the path of the certificate of a server with TLS, in PEM.
func (s *Server) CAFile() string { return s.certificate.File }

// roots returns a pool with the certificate of the server.
func (s *Server) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.certificate.Certificate)
	return pool
}
