package postgres

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

func TestAddressesInEveryDialect(t *testing.T) {
	t.Parallel()
	type want struct {
		host, user, password, database, schema, mode string
		port                                         uint16
		conns                                        int32
	}
	plain := want{host: "db.example", user: "app", password: "hunter2", database: "shop", port: 5432, conns: 2}
	with := func(change func(*want)) want {
		w := plain
		change(&w)
		return w
	}
	const keywords = "host=db.example user=app password=hunter2 dbname=shop "
	for dsn, w := range map[string]want{
		"postgres://app:hunter2@db.example/shop":                                                                            plain,
		"postgresql://app:hunter2@db.example:5432/shop":                                                                     plain,
		" 'postgres://app:hunter2@db.example/shop' ":                                                                        plain,
		`"postgres://app:hunter2@db.example/shop"`:                                                                          plain,
		"postgresql+asyncpg://app:hunter2@db.example/shop":                                                                  plain,
		"jdbc:postgresql://app:hunter2@db.example/shop":                                                                     plain,
		"host=db.example user=app password=hunter2 dbname=shop":                                                             plain,
		"host = db.example  user='app' password='hunter2' database=shop ":                                                   plain,
		"postgres://app:hunter2@/shop?host=db.example":                                                                      plain,
		"postgres://db.example/shop?user=app&password=hunter2":                                                              plain,
		"postgres://app:p%40ss%2F%3Aw@db.example/shop":                                                                      with(func(w *want) { w.password = "p@ss/:w" }),
		"postgres://app:p@ss#w%@db.example/shop":                                                                            with(func(w *want) { w.password = "p@ss#w%" }),
		`host=db.example user=app password='it\'s \\' dbname=shop`:                                                          with(func(w *want) { w.password = `it's \` }),
		"postgres://app:hunter2@db.example:6543/shop?pgbouncer=true&connection_limit=1":                                     with(func(w *want) { w.port, w.conns = 6543, 1 }),
		"postgres://app:hunter2@db.example/shop?connection_limit=50&pool_timeout=0&socket_timeout=3&statement_cache_size=0": plain,
		"postgres://app:hunter2@db.example/shop?schema=app":                                                                 with(func(w *want) { w.schema = "app" }),
		"postgres://app:hunter2@db.example/shop?sslmode=require":                                                            with(func(w *want) { w.mode = "tls" }),
		"postgres://app:hunter2@db.example/shop?sslmode=no-verify":                                                          with(func(w *want) { w.mode = "tls" }),
		"postgres://app:hunter2@db.example/shop?ssl=true&uselibpqcompat=true":                                               with(func(w *want) { w.mode = "tls" }),
		"postgres://app:hunter2@db.example/shop?sslmode=require&sslaccept=strict":                                           with(func(w *want) { w.mode = "verified" }),
		"postgres://app:hunter2@db.example/shop?sslmode=verify-full":                                                        with(func(w *want) { w.mode = "verified" }),
		"postgres://app:hunter2@db.example/shop?connect_timeout=10s&supa=base&workaround=x&prepareThreshold=0&keepalives=1": plain,
		"postgres://app:hunter2@db.example/shop?connect_timeout=0&options=endpoint%3Dep-1&channel_binding=require":          plain,
		"postgres://app:hunter2@[::1]:5433/shop":                                                                            with(func(w *want) { w.host, w.port = "::1", 5433 }),
		"postgres://app:hunter2@%2Fvar%2Frun%2Fpostgresql/shop":                                                             with(func(w *want) { w.host = "/var/run/postgresql" }),
		"postgres://app:hunter2@db.example:5432,other:5433/shop?target_session_attrs=read-write":                            plain,
		"postgres://app:hunter2@/shop?hostaddr=10.0.0.1":                                                                    with(func(w *want) { w.host = "10.0.0.1" }),
		keywords + "keepalives=1 keepalives_idle=30 keepalives_interval=10 keepalives_count=3 tcp_user_timeout=5000 gssencmode=disable load_balance_hosts=random": plain,
		keywords + "target_session_attrs=read-write sslnegotiation=postgres channel_binding=prefer require_auth=scram-sha-256 connect_timeout=0":                  plain,
		keywords + "requirepeer=postgres replication=database fallback_application_name=x sslcompression=0 ssl_min_protocol_version=TLSv1.2":                      plain,
		keywords + "schema=app connection_limit=1 pgbouncer=true pool_timeout=0 socket_timeout=3 statement_cache_size=0":                                          with(func(w *want) { w.schema, w.conns = "app", 1 }),
		keywords + "sslmode=require sslaccept=strict":             with(func(w *want) { w.mode = "verified" }),
		keywords + "sslmode=no-verify":                            with(func(w *want) { w.mode = "tls" }),
		keywords + "ssl=true uselibpqcompat=true":                 with(func(w *want) { w.mode = "tls" }),
		"hostaddr=10.0.0.1 user=app password=hunter2 dbname=shop": with(func(w *want) { w.host = "10.0.0.1" }),
	} {
		t.Run(dsn, func(t *testing.T) {
			a, err := parseAddress(dsn)
			if err != nil {
				t.Fatal(err)
			}
			config, err := a.poolConfig()
			if err != nil {
				t.Fatal(err)
			}
			c := config.ConnConfig
			got := want{c.Host, c.User, c.Password, c.Database, a.schema, w.mode, c.Port, config.MaxConns}
			if got != w {
				t.Errorf("got %+v, want %+v", got, w)
			}
			switch tls := c.TLSConfig; w.mode {
			case "tls":
				if tls == nil || !tls.InsecureSkipVerify || len(c.Fallbacks) > 0 {
					t.Errorf("TLS %v with %d fallbacks", tls, len(c.Fallbacks))
				}
			case "verified":
				if tls == nil || tls.InsecureSkipVerify || tls.ServerName != "db.example" {
					t.Errorf("TLS %+v", tls)
				}
			}
			for name := range c.RuntimeParams {
				if name != "application_name" && name != "options" {
					t.Errorf("the server receives %s", name)
				}
			}
			if c.ConnectTimeout < time.Second {
				t.Errorf("an attempt may take %s", c.ConnectTimeout)
			}
		})
	}
}

func TestAddressesThatCannotBeRight(t *testing.T) {
	t.Parallel()
	for dsn, says := range map[string]string{
		"":                             "postgres://",
		"   ":                          "postgres://",
		"hunter2":                      "postgres://",
		"mysql://root:hunter2@db/shop": "postgres://",
		"prisma://accelerate.example/?api_key=hunter2":       "direct",
		"prisma+postgres://localhost:51213/?api_key=hunter2": "direct",
		"postgres://app:hunter2@db:port/shop":                "ports",
		"postgres://app:hunter2@db/shop?sslmode=hunter2":     "sslmode",
		"postgres://app:hunter2@db/shop?x=%zz":               "percent-encoded",
		"host=db password='hunter2":                          "postgres://",
		"postgres://app:hun?ter2@db/shop":                    "percent-encode the characters ?, #, / and @",
		"postgres://app:)u&hun]Fl|1)q~5?ter2@db/shop":        "percent-encode the characters ?, #, / and @",
		"postgres://db/shop?user=app&password=hunter2@":      "percent-encode the characters ?, #, / and @",
		"postgres://app:p@hunter2?ter2":                      "percent-encode the characters ?, #, / and @",
		"postgres://hunter2:p]/shop":                         "host",
		"postgres://db/shop;password=hunter2":                "plain name",
		"postgres://db/shop?user=app&password=x&user=hunter": "twice",
		"jdbc:postgresql:shop?user=app&password=hunter2":     "ADO.NET",
		"jdbc:postgresql://db;user=app;password=hunter2":     "host",
		"jdbc:postgresql://db;user=app;password=p@hunter2":   "percent-encode the characters ?, #, / and @",
		"jdbc:postgresql://db/shop;password=p@hunter2":       "percent-encode the characters ?, #, / and @",
		"Server=db;Database=shop;User Id=u;Password=hunter2": "ADO.NET",
		"Host=db;Username=u;Password=hunter2;Database=shop":  "ADO.NET",
		"host=db;username=u;password=hunter2":                "ADO.NET",
		"host=db user=u password=hun ter2=x dbname=shop":     "quotes around a password",
		"host=db user=u password=hun host=ter2":              "twice",
		"host=db dbname='host=x password=hunter2'":           "plain name",
		"host=db dbname=postgres://u:hunter2@x/y":            "plain name",
		"service=shop password=hunter2":                      "pg_service.conf",
		"postgres://app:hunter2@/shop?service=shop":          "pg_service.conf",
		"hostaddr=hunter;2 dbname=shop":                      "ADO.NET",
		"hostaddr='hunter;2' dbname=shop":                    "host",
	} {
		t.Run(dsn, func(t *testing.T) {
			a, err := parseAddress(dsn)
			if err == nil {
				_, err = a.poolConfig()
			}
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Fatalf("error %v does not say %q", err, says)
			}
			if strings.Contains(err.Error(), "hun") || strings.Contains(err.Error(), "ter2") {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

func TestASocketTakesThePlaceOfAHost(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://app:hunter2@localhost/shop?host=/cloudsql/project:region:db", "host=/cloudsql/project:region:db user=app password=hunter2 dbname=shop",
	} {
		d, err := Open(Config{DSN: func() (string, error) { return dsn, nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if want := "database shop at /cloudsql/project:region:db"; d.String() != want {
			t.Errorf("%s: %s", dsn, d)
		}
	}
}

// What stands in place of the password shows nowhere, whatever it is.
func FuzzPassword(f *testing.F) {
	for _, password := range []string{
		"Sec?ret", "a#bcdef", ")u&rI5]Fl|1)q~5?7G}", "Zk/93@qX:7w%vb", "1234?5678", "12/abcd", "%41%zz", "x host=abcd", "x' host=abcd '", "a&host=abcd", "a&host=/abcd",
		"a?dbname=abcd", "\\'; --", "p@ssword?x=y", "[abcd]:1", "a,abcd:5432", "abcd", "://abcd", "'", `"`, "a\x00bcd",
	} {
		f.Add(password)
	}
	var plain strings.Builder
	for _, err := range []error{errAddress, errParameter, errPrisma, errEscape, errHost, errDatabase, errKeyword, errTwice, errService} {
		plain.WriteString(err.Error())
	}
	forms := []string{
		"postgres://app:%s@db.example:5432/shop", "postgresql://app:%s@db.example/shop?sslmode=require&schema=x", "postgres://%s@db.example/shop", "postgres://app:%s@/shop?host=db.example",
		"jdbc:postgresql://db.example/shop?user=app&password=%s", "jdbc:postgresql://db.example/shop?password=%s&user=app", "jdbc:postgresql:shop?user=app&password=%s",
		"host=db.example dbname=shop user=app password=%s", "password=%s host=db.example dbname=shop", "host=db.example dbname=shop password='%s'",
		"Server=db.example;Database=shop;User Id=app;Password=%s;", "host=db.example;username=app;password=%s;database=shop", "jdbc:postgresql://db.example;databaseName=shop;user=app;password=%s",
		"app:%s@db.example/shop", "%s",
	}
	f.Fuzz(func(t *testing.T, password string) {
		for _, form := range forms {
			dsn := strings.Replace(form, "%s", password, 1)
			a, err := parseAddress(dsn)
			shown := ""
			if err == nil {
				var config *pgxpool.Config
				if config, err = a.poolConfig(); err == nil {
					c := &config.ConnConfig.Config
					shown = c.Database + " " + hostOf(c)
					for _, other := range c.Fallbacks {
						shown += " " + hostOf(&pgconn.Config{Host: other.Host, Port: other.Port})
					}
				}
			}
			if err != nil {
				shown = err.Error()
			}
			if form == "%s" && err == nil { // it is an address of its own
				continue
			}
			for i := 0; i+4 <= len(password); i++ {
				if piece := password[i : i+4]; strings.Contains(shown, piece) && !strings.Contains(form+plain.String()+"127.0.0.1:5432", piece) {
					t.Fatalf("%q: %s", dsn, shown)
				}
			}
		}
	})
}

func TestTheEnvironmentOfCaddyHasNoInfluence(t *testing.T) {
	name := database(t, oneUser)
	for name, value := range map[string]string{
		"PGHOST": "elsewhere", "PGPORT": "1", "PGDATABASE": "other", "PGUSER": "somebody", "PGPASSWORD": "hunter2",
		"PGPASSFILE": "/nowhere", "PGAPPNAME": "other", "PGCONNECT_TIMEOUT": "x", "PGSSLMODE": "nonsense", "PGSSLKEY": "/nowhere",
		"PGSSLCERT": "/nowhere", "PGSSLCERTMODE": "nonsense", "PGSSLSNI": "x", "PGSSLROOTCERT": "/nowhere", "PGSSLPASSWORD": "x",
		"PGSSLNEGOTIATION": "nonsense", "PGTARGETSESSIONATTRS": "nonsense", "PGSERVICE": "nonsense", "PGSERVICEFILE": "/nowhere",
		"PGTZ": "Mars", "PGOPTIONS": "-c nonsense=1", "PGMINPROTOCOLVERSION": "9", "PGMAXPROTOCOLVERSION": "9",
		"PGCHANNELBINDING": "nonsense", "PGREQUIREAUTH": "nonsense",
	} {
		t.Setenv(name, value)
	}
	host, port, err := net.SplitHostPort(server.Address())
	if err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{server.DSN(name), "host=" + host + " port=" + port + " user=postgres dbname=" + name} {
		d, _ := open(t, dsn, Config{})
		if !lookup(t, d, "live").Exists {
			t.Errorf("%s: the user was not found", dsn)
		}
		if c := d.pool.Config().ConnConfig; c.RuntimeParams["application_name"] != applicationName || c.Password != "" {
			t.Errorf("application_name %q, password %q", c.RuntimeParams["application_name"], c.Password)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, dsn := range []string{
		"postgres://app:hunter2@db.example/shop?schema=app", "host=db password='it\\'s' user=x", "prisma://x", `"postgres://a@b,c:5,[::1]:3/d"`,
		"postgres://%zz:%zz@[/x?sslmode=require&sslcert=x", "postgres://:@:/?", "a=b c", "'", "jdbc:postgresql+x://",
	} {
		f.Add(dsn, "s3cret-of-mine")
	}
	f.Fuzz(func(t *testing.T, dsn, password string) {
		a, err := parseAddress(dsn)
		if err == nil {
			_, _ = a.poolConfig() // must not panic
		}
		if len(password) < 8 || strings.Contains(errAddress.Error(), password) || strings.Contains(errParameter.Error(), password) {
			return
		}
		a, err = parseAddress("postgres://u:" + url.QueryEscape(password) + "@h:x/d?" + dsn)
		if err == nil {
			_, err = a.poolConfig()
		}
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("the password is in the error: %v", err)
		}
	})
}
