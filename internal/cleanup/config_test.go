package cleanup

import (
	"reflect"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
)

func TestConfig(t *testing.T) {
	t.Setenv("CLEANUP_TEST_URL", "postgres://c@127.0.0.1:1/cleanup")
	users := postgres.Config{
		DSN:   func() (string, error) { return "postgres://u@127.0.0.1:1/users", nil },
		Users: postgres.Users{Table: "people", ID: "key", CreatedAt: "born", Disabled: []string{"banned"}, Match: map[string]string{"email": "email"}},
	}
	for name, c := range map[string]struct {
		options Cleanup
		every   time.Duration
		dsn     string
		invalid bool
	}{
		"defaults":  {Cleanup{}, time.Hour, "postgres://u@127.0.0.1:1/users", false},
		"all":       {Cleanup{Every: caddy.Duration(time.Minute), Database: "{env.CLEANUP_TEST_URL}", Sessions: "s", DryRun: true}, time.Minute, "postgres://c@127.0.0.1:1/cleanup", false},
		"too often": {Cleanup{Every: caddy.Duration(time.Minute - 1)}, 0, "", true},
		"negative":  {Cleanup{Every: -1}, 0, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := c.options.Config(users)
			if c.invalid {
				if err == nil {
					t.Error("it is accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			dsn, err := config.Users.DSN()
			if err != nil || dsn != c.dsn || config.Every != c.every || config.Sessions != c.options.Sessions || config.DryRun != c.options.DryRun {
				t.Errorf("%+v, address %s, error %v", config, dsn, err)
			}
			if key := (postgres.Users{Table: "people", ID: "key"}); !reflect.DeepEqual(config.Users.Users, key) {
				t.Errorf("the role has to read %+v", config.Users.Users)
			}
			if !config.Users.AllRivals {
				t.Error("users of other tables are taken for orphans")
			}
		})
	}
}
