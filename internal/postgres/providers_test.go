package postgres

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// codeBlock is a block of the docs with addresses: one without a language.
var codeBlock = regexp.MustCompile("(?ms)^```\n(.*?)^```")

// TestTheAddressesOfProviders reads those of docs/databases.md, each as its console
// prints it.
func TestTheAddressesOfProviders(t *testing.T) {
	t.Parallel()
	type want struct {
		provider, name             string
		host, user, password, base string
		port                       uint16
		tls                        string // a must, tried, or none
	}
	const must, tried, none = "a must", "tried", "none"
	const project, endpoint = "postgres.abcdefghijklmnop", "ep-cool-darkness-a1b2c3d4"
	const rds = "shop.abc123.eu-central-1.rds.amazonaws.com"
	all := []want{
		{"PgBouncer", "DATABASE_URL", "pgbouncer.internal", "app", "secret", "shop", 6432, tried},
		{"PgBouncer", "DIRECT_URL", "db.internal", "app", "secret", "shop", 5432, tried},
		{"Supabase", "DIRECT_URL", "db.abcdefghijklmnop.supabase.co", "postgres", "secret", "postgres", 5432, tried},
		{"Supabase", "DATABASE_URL", "aws-0-eu-central-1.pooler.supabase.com", project, "secret", "postgres", 6543, tried},
		{"Supabase", "SESSION_URL", "aws-0-eu-central-1.pooler.supabase.com", project, "secret", "postgres", 5432, tried},
		{"Neon", "DATABASE_URL", endpoint + "-pooler.us-east-2.aws.neon.tech", "neondb_owner", "secret", "neondb", 5432, must},
		{"Neon", "DIRECT_URL", endpoint + ".us-east-2.aws.neon.tech", "neondb_owner", "secret", "neondb", 5432, must},
		{"RDS and Aurora", "DATABASE_URL", rds, "app", "secret", "shop", 5432, must},
		{"RDS and Aurora", "", rds, "app", rds + ":5432/?Action=connect&DBUser=app&X-Amz-Signature=0123abcd", "shop", 5432, must},
		{"RDS Proxy", "DATABASE_URL", "shop.proxy-abc123.eu-central-1.rds.amazonaws.com", "app", "secret", "shop", 5432, must},
		{"RDS Proxy", "DIRECT_URL", rds, "app", "secret", "shop", 5432, must},
		{"Azure", "DATABASE_URL", "shop.postgres.database.azure.com", "app", "secret", "shop", 5432, must},
		{"Azure", "", "shop.postgres.database.azure.com", "app", "secret", "shop", 5432, must},
		{"Cloud SQL", "DATABASE_URL", "/cloudsql/my-project:europe-west1:shop", "app", "secret", "shop", 5432, none},
		{"Cloud SQL", "", "/cloudsql/my-project:europe-west1:shop", "app", "secret", "shop", 5432, none},
		{"Cloud SQL", "DATABASE_URL", "10.1.2.3", "app", "secret", "shop", 5432, tried},
		{"Heroku", "DATABASE_URL", "ec2-1-2-3-4.compute-1.amazonaws.com", "u1abc", "p1def", "d1ghi", 5432, tried},
		{"Fly", "DATABASE_URL", "pgbouncer.abcdefg.flympg.net", "fly-user", "secret", "fly-db", 5432, tried},
		{"Fly", "DIRECT_URL", "direct.abcdefg.flympg.net", "fly-user", "secret", "fly-db", 5432, tried},
		{"Fly", "FLYCAST_URL", "shop-db.flycast", "postgres", "secret", "shop", 5432, none},
		{"Railway", "DATABASE_URL", "postgres.railway.internal", "postgres", "secret", "railway", 5432, tried},
		{"Railway", "DATABASE_PUBLIC_URL", "roundhouse.proxy.rlwy.net", "postgres", "secret", "railway", 12345, tried},
		{"Vercel", "DATABASE_URL", endpoint + "-pooler.us-east-2.aws.neon.tech", "neondb_owner", "secret", "neondb", 5432, must},
		{"Vercel", "DATABASE_URL_UNPOOLED", endpoint + ".us-east-2.aws.neon.tech", "neondb_owner", "secret", "neondb", 5432, must},
		{"Vercel", "POSTGRES_PRISMA_URL", endpoint + "-pooler.us-east-2.aws.neon.tech", "neondb_owner", "secret", "neondb", 5432, must},
	}
	page, err := os.ReadFile("../../docs/databases.md")
	if err != nil {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(string(page), "\n## ") {
		provider, text, _ := strings.Cut(section, "\n")
		for _, block := range codeBlock.FindAllStringSubmatch(text, -1) {
			for dsn := range strings.Lines(block[1]) {
				if dsn[0] == '#' {
					continue
				}
				name := ""
				if !strings.HasPrefix(dsn, "host=") {
					name, dsn, _ = strings.Cut(dsn, "=")
				}
				if len(all) == 0 {
					t.Fatalf("%s: more addresses than expected: %s", provider, dsn)
				}
				w := all[0]
				all = all[1:]
				a, err := parseAddress(dsn)
				if err != nil {
					t.Errorf("%s: %v", provider, err)
					continue
				}
				config, err := a.poolConfig()
				if err != nil {
					t.Errorf("%s: %v", provider, err)
					continue
				}
				c := config.ConnConfig
				tls := none
				if c.TLSConfig != nil {
					if tls = must; len(c.Fallbacks) > 0 {
						tls = tried
					}
				}
				if got := (want{provider, name, c.Host, c.User, c.Password, c.Database, c.Port, tls}); got != w {
					t.Errorf("got  %+v\nwant %+v", got, w)
				}
				for name := range c.RuntimeParams {
					if name != "application_name" {
						t.Errorf("%s: a pooler may refuse %s", provider, name)
					}
				}
			}
		}
	}
	if len(all) > 0 {
		t.Errorf("not in the docs: %+v", all)
	}
}
