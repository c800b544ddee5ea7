package postgres

import (
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/pgtest"
)

func TestUsersBehindTLS(t *testing.T) {
	t.Parallel()
	s := pgtest.StartFor(t)
	authority, err := s.UseTLS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Exec(t.Context(), "postgres", `create table "User" (id text primary key); insert into "User" values ('ada')`); err != nil {
		t.Fatal(err)
	}
	if err := s.AllowOnlyTLS(t.Context()); err != nil {
		t.Fatal(err)
	}
	plain := database(t, `create table "User" (id text primary key)`)
	_, port, _ := strings.Cut(s.Address(), ":")
	at := func(host, parameters string) string {
		return "postgres://postgres@" + host + ":" + port + "/postgres?" + parameters
	}
	for name, c := range map[string]struct {
		dsn   string
		class directories.Class // none when the user is found
		says  string            // what to do
	}{
		"nothing said of TLS":            {at("127.0.0.1", ""), "", ""},
		"with TLS, unchecked":            {at("127.0.0.1", "sslmode=require"), "", ""},
		"as Prisma says it":              {at("127.0.0.1", "sslaccept=strict&sslcert="+authority), "", ""},
		"as node-postgres says it":       {at("127.0.0.1", "sslmode=no-verify"), "", ""},
		"checked":                        {at("127.0.0.1", "sslmode=verify-full&sslrootcert="+authority), "", ""},
		"of an authority nobody knows":   {at("127.0.0.1", "sslmode=verify-full"), directories.Down, "sslrootcert=FILE"},
		"for another host":               {at("localhost", "sslmode=verify-full&sslrootcert="+authority), directories.Down, "the host that the certificate is for"},
		"an authority checked, no host":  {at("localhost", "sslmode=verify-ca&sslrootcert="+authority), "", ""},
		"no TLS where it is a must":      {at("127.0.0.1", "sslmode=disable"), directories.Refused, "sslmode=require"},
		"TLS where there is none":        {strings.Replace(server.DSN(plain), "disable", "require", 1), directories.Down, "sslmode=disable"},
		"a user whom nobody has made":    {strings.Replace(server.DSN(plain), "postgres@", "nobody@", 1), directories.Refused, "there is no such user"},
		"preferred, where there is none": {strings.Replace(server.DSN(plain), "disable", "prefer", 1), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, c.dsn, Config{})
			if c.class == "" {
				if account := lookup(t, d, "ada"); account.Exists == strings.Contains(c.dsn, plain) {
					t.Errorf("found %+v", account)
				}
				return
			}
			if e := failure(t, d, "ada"); e.Class != c.class || !strings.Contains(e.Error(), c.says) {
				t.Errorf("class %s: %v", e.Class, e)
			}
		})
	}
}
