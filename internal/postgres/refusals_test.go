package postgres

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// doorkeeper stands in for a pooler or a proxy of a provider that cannot be run
// here, in front of the shared server. It refuses those connections for whose
// settings refuse returns an error, and lets others through. It returns its address.
func doorkeeper(t testing.TB, refuse func(settings map[string]string) *pgproto3.ErrorResponse) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				backend := pgproto3.NewBackend(client, client)
				message, err := backend.ReceiveStartupMessage()
				start, ok := message.(*pgproto3.StartupMessage)
				if err != nil || !ok {
					return
				}
				if refusal := refuse(start.Parameters); refusal != nil {
					backend.Send(refusal)
					_ = backend.Flush() // the client may be gone
					return
				}
				upstream, err := net.Dial("tcp", server.Address())
				if err != nil {
					return
				}
				defer upstream.Close()
				text, err := start.Encode(nil)
				if err != nil {
					return
				}
				if _, err := upstream.Write(text); err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(upstream, client) // either may end the connection
					upstream.Close()
				}()
				_, _ = io.Copy(client, upstream)
			}()
		}
	}()
	return listener.Addr().String()
}

func TestPoolersThatKnowOnlySomeSettings(t *testing.T) {
	t.Parallel()
	name := database(t, oneUser)
	for who, refusal := range map[string]pgproto3.ErrorResponse{
		"RDS Proxy":               {Severity: "FATAL", Code: "0A000", Message: "Feature not supported: RDS Proxy currently doesn’t support the option default_transaction_read_only."},
		"a pooler of other words": {Severity: "FATAL", Code: "42704", Message: `unrecognized configuration parameter "row_security"`},
		"PgBouncer":               {Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: lock_timeout"},
	} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			address := doorkeeper(t, func(settings map[string]string) *pgproto3.ErrorResponse {
				for name := range settings {
					if !slices.Contains([]string{"user", "database", "application_name", "client_encoding"}, name) {
						return &refusal
					}
				}
				return nil
			})
			dsn := "postgres://postgres@" + address + "/" + name + "?sslmode=disable"
			d, _ := open(t, dsn, Config{})
			if !lookup(t, d, "live").Exists || lookup(t, d, "gone").Exists {
				t.Error("the lookups are wrong")
			}
			w, err := d.Watch(t.Context(), func(...string) {})
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			finds(t, d.Diagnose(t.Context()), directories.Good, "users are looked up in")
			if _, err := d.InstallSQL(t.Context()); err != nil {
				t.Errorf("install: %v", err)
			}
			// Without a setting of the address, another table might be read.
			d, _ = open(t, dsn+"&search_path=app", Config{})
			if e := failure(t, d, "live"); e.Code != refusal.Code || who != "a pooler of other words" && e.Text != adviseSettings {
				t.Errorf("a setting of the address: %v", e)
			}
			if d.lookups.pooled.Load() {
				t.Error("later connections have no settings, although those of the address were refused")
			}
		})
	}
}

// TestRefusalsNameTheRemedy has what servers, poolers and providers say, word by
// word.
func TestRefusalsNameTheRemedy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code, message, says string
		class               directories.Class
	}{
		"no such database":                    {"3D000", `database "shop" does not exist`, "there is no database of this name", directories.Refused},
		"no such database, PgBouncer":         {"08P01", "no such database: shop", "there is no database of this name", directories.Refused},
		"no such database, of a pooler":       {"08P01", `database "shop" does not exist`, "there is no database of this name", directories.Refused},
		"no such role":                        {"28000", `role "app" does not exist`, "there is no such user", directories.Refused},
		"a role without LOGIN":                {"28000", `role "app" is not permitted to log in`, "LOGIN", directories.Refused},
		"another password":                    {"28P01", `password authentication failed for user "app"`, "percent-encoded", directories.Refused},
		"another password, PgBouncer":         {"08P01", "SASL authentication failed", "the user or the password", directories.Refused},
		"no such user, PgBouncer":             {"08P01", "no such user: app", "the user or the password", directories.Refused},
		"pg_hba":                              {"28000", `no pg_hba.conf entry for host "10.0.0.1", user "app", database "shop", SSL encryption`, "pg_hba.conf", directories.Refused},
		"pg_hba, TLS required":                {"28000", `no pg_hba.conf entry for host "10.0.0.1", user "app", database "shop", no encryption`, "sslmode=require", directories.Refused},
		"pg_hba, TLS required, old":           {"28000", `no pg_hba.conf entry for host "10.0.0.1", user "app", database "shop", SSL off`, "sslmode=require", directories.Refused},
		"pg_hba in another language":          {"28000", "kein pg_hba.conf-Eintrag für Host »10.0.0.1«", "pg_hba.conf", directories.Refused},
		"no such database or user, PgBouncer": {"08P01", "bouncer config error", "pgbouncer.ini", directories.Refused},
		"PgBouncer in statement mode":         {"08P01", "transaction blocks not allowed in statement pooling mode", "pool_mode", directories.Refused},
		"TLS required, PgBouncer":             {"08P01", "SSL required", "sslmode=require", directories.Refused},
		"TLS required, RDS Proxy":             {"28000", "This RDS Proxy requires TLS connections", "sslmode=require", directories.Refused},
		"TLS required, Neon":                  {"XX000", "connection is insecure (try using `sslmode=require`)", "sslmode=require", directories.Refused},
		"TLS required, Supabase":              {"XX000", "SSL connection is required", "sslmode=require", directories.Refused},
		"an expired token of IAM":             {"28000", `PAM authentication failed for user "app"`, "15 minutes", directories.Refused},
		"no right to connect":                 {"42501", `permission denied for database "shop"`, "GRANT CONNECT", directories.Refused},
		"no connections allowed":              {"55000", `database "shop" is not currently accepting connections`, "ALLOW_CONNECTIONS", directories.Refused},
		"too many connections":                {"53300", "sorry, too many clients already", "max_connections", directories.Down},
		"too many connections of a role":      {"53300", `too many connections for role "app"`, "connection limit of the role", directories.Down},
		"too many connections, PgBouncer":     {"08P01", "no more connections allowed (max_client_conn)", "max_connections", directories.Down},
		"too many connections, Supabase":      {"XX000", "MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size", "the pooler", directories.Down},
		"the pool is exhausted, Supabase":     {"XX000", "unable to check out process from the pool due to checkout timeout", "the pooler", directories.Down},
		"an unknown project of Supabase":      {"XX000", "Tenant or user not found", "postgres.PROJECT", directories.Refused},
		"an unknown project of Supabase, new": {"XX000", "(ENOTFOUND) tenant/user postgres.abc not found", "postgres.PROJECT", directories.Refused},
		"no project of Supabase":              {"XX000", "(ENOIDENTIFIER) no tenant identifier provided (external_id or sni_hostname required)", "postgres.PROJECT", directories.Refused},
		"the quota of Neon":                   {"XX000", "Your account or project has exceeded the compute time quota. Upgrade your plan to increase limits.", "quota", directories.Refused},
		"no SNI, Neon":                        {"08P01", "Endpoint ID is not specified. Either please upgrade the postgres client library (libpq) for SNI support or pass the endpoint ID (first part of the domain name) as a parameter", "options=endpoint%3D", directories.Refused},
		"no such endpoint of Neon":            {"XX000", "The requested endpoint could not be found, or you don't have access to it. Please check the provided ID and try again.", "copy the address", directories.Refused},
		"a pooler that cannot sign in":        {"08P01", "server login has been failing, try again later (server_login_retry)", "its log says why", directories.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := doorkeeper(t, func(map[string]string) *pgproto3.ErrorResponse {
				return &pgproto3.ErrorResponse{Severity: "FATAL", Code: c.code, Message: c.message}
			})
			d, _ := open(t, "postgres://app:hunter2@"+address+"/shop?sslmode=disable", Config{})
			e := failure(t, d, "live")
			if e.Class != c.class || e.Code != c.code || !strings.Contains(e.Text, c.says) {
				t.Errorf("%s: %v", e.Class, e)
			}
			if strings.Contains(e.Error(), "hunter2") || strings.Contains(e.Error(), "app") {
				t.Errorf("it quotes the address: %v", e)
			}
		})
	}
}

func TestAddressesThatAskForMoreThanTheServerHas(t *testing.T) {
	t.Parallel()
	r := newRotating(t) // passwords with SCRAM, and no TLS
	dsn, err := r.dsn()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ dsn, says string }{
		"channel binding":  {dsn + "&channel_binding=require", "remove channel_binding=require"},
		"TLS":              {strings.Replace(dsn, "=disable", "=require", 1), "add sslmode=disable"},
		"another password": {strings.Replace(dsn, "first", "hunter2", 1), "percent-encoded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, c.dsn, Config{})
			if e := failure(t, d, "live"); !strings.Contains(e.Text, c.says) || strings.Contains(e.Text, "hunter2") {
				t.Errorf("%v", e)
			}
		})
	}
}
