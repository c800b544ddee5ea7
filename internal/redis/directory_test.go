package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/eventually"
	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/redistest"
)

func start(t *testing.T, settings ...string) *redistest.Server {
	t.Helper()
	s, err := redistest.Start(t.Context(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// do sends commands.
func do(t *testing.T, s *redistest.Server, commands ...string) {
	t.Helper()
	for _, command := range commands {
		var words []string
		if name, rest, ok := strings.Cut(command, " "); ok && name == "SET" { // its value may have spaces
			key, value, _ := strings.Cut(rest, " ")
			words = []string{name, key, value}
		} else {
			words = strings.Fields(command)
		}
		answer, err := s.Do(context.Background(), words...)
		if err != nil || strings.HasPrefix(answer, "-") {
			t.Fatalf("%s: %v %s", command, err, answer)
		}
	}
}

// open opens the engine of a directory, as handlers do.
func open(t *testing.T, url string, config Config) *accounts.Engine {
	t.Helper()
	config.URL = func() (string, error) { return url, nil }
	directory, err := NewDirectory(config)
	if err != nil {
		t.Fatal(err)
	}
	e := accounts.Open(directory, accounts.Config{Timeout: time.Minute}) // for slow machines
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// verdict looks a subject up, and returns live, gone, disabled, or the class of the
// failure.
func verdict(t *testing.T, d *accounts.Engine, subject string) string {
	t.Helper()
	return inAWord(t, d, subject, time.Time{})
}

// confirmed is verdict for what may end a session.
func confirmed(t *testing.T, d *accounts.Engine, subject string) string {
	t.Helper()
	return inAWord(t, d, subject, time.Now())
}

func inAWord(t *testing.T, d *accounts.Engine, subject string, since time.Time) string {
	t.Helper()
	var account accounts.Account
	_, err := d.Lookup(context.Background(), accounts.Query{Query: directories.Query{Subject: []byte(subject), Since: since}, Now: time.Now()}, &account)
	var failure *directories.Error
	switch {
	case errors.As(err, &failure):
		return string(failure.Class)
	case err != nil:
		return err.Error()
	case !account.Exists:
		return "gone"
	case account.Disabled:
		return "disabled"
	}
	return "live"
}

func TestUsersOfTheUpstashAdapter(t *testing.T) {
	s := start(t)
	do(t, s, `SET user:1 {"name":"Ada","email":"ada@example.com","emailVerified":null,"id":"1"}`,
		`SET user:email:ada@example.com "1"`, `SET user:session:t {"sessionToken":"t","userId":"1","id":"7"}`)
	d := open(t, s.URL(), Config{})
	for subject, want := range map[string]string{
		"1": "live", "2": "gone", "": "gone",
		"email:ada@example.com": "gone", // another key with the same prefix
		"session:t":             "gone",
	} {
		if got := verdict(t, d, subject); got != want {
			t.Errorf("%q is %s, want %s", subject, got, want)
		}
	}
}

// The value may be the user.
func TestAnUnreadableUserIsUnknown(t *testing.T) {
	s := start(t)
	d := open(t, s.URL(), Config{})
	for name, value := range map[string]string{"truncated": `{"id":"1","na`, "not JSON": "\x00\xff", "a JSON string": `"1"`, "null": "null", "empty": ""} {
		do(t, s, "SET user:1 "+value, "DEL user:2")
		eventually.Holds(t, name+" is unknown", func() bool { return verdict(t, d, "1") == "schema" })
		if got := verdict(t, d, "2"); got != "gone" {
			t.Errorf("%s: another user is %s", name, got)
		}
	}
	do(t, s, `SET user:1 {"id":"1"}`)
	eventually.Holds(t, "the user is live again", func() bool { return verdict(t, d, "1") == "live" })
}

func TestFieldsOfHashesAndOfJSON(t *testing.T) {
	s := start(t)
	soon, past := time.Now().Add(time.Hour).Format(time.RFC3339), time.Now().Add(-time.Hour).Format(time.RFC3339)
	config := Config{Key: "app:{subject}:user", Disabled: []string{"banned", "deletedAt"}, CreatedAt: "made", ValidAfter: "since", Match: []string{"email"}}
	for name, fields := range map[string]struct{ banned, deleted, made, want string }{
		"plain":        {"", "", "", "live"},
		"unbanned":     {"false", "", "", "live"},
		"zero":         {"0", "", "", "live"},
		"banned":       {"true", "", "", "disabled"},
		"one":          {"1", "", "", "disabled"},
		"deleted":      {"", past, "", "disabled"},
		"deleted-soon": {"", soon, "", "live"},
		"odd":          {"perhaps", "", "", "schema"},
		"odd-time":     {"", "", "yesterday", "schema"},
	} {
		do(t, s, fmt.Sprintf(`SET app:json-%s:user {"banned":%q,"deletedAt":%q,"made":%q,"since":1700000000000,"email":"a"}`, name, fields.banned, fields.deleted, fields.made))
		if _, err := s.Do(t.Context(), "HSET", "app:hash-"+name+":user", "banned", fields.banned, "deletedAt", fields.deleted, "made", fields.made, "since", "1700000000", "email", "a"); err != nil {
			t.Fatal(err)
		}
		d := open(t, s.URL(), config)
		for _, kind := range []string{"json-", "hash-", "json-"} { // so that the type changes
			if got := verdict(t, d, kind+name); got != fields.want {
				t.Errorf("%s%s is %s, want %s", kind, name, got, fields.want)
			}
		}
		if fields.want != "live" {
			continue
		}
		var account accounts.Account
		_, err := d.Lookup(t.Context(), accounts.Query{Query: directories.Query{Subject: []byte("hash-" + name)}, Now: time.Now()}, &account)
		if err != nil || account.ValidAfter.Unix() != 1700000000 || len(account.Matched) != 1 || string(account.Matched[0]) != "a" {
			t.Errorf("%s: %v %v %q", name, err, account.ValidAfter, account.Matched)
		}
	}
	do(t, s, "RPUSH app:list:user x")
	if got := verdict(t, open(t, s.URL(), config), "list"); got != "schema" {
		t.Errorf("a list is %s, want schema", got)
	}
}

func TestChangesAreNoticed(t *testing.T) {
	s := start(t)
	do(t, s, `SET user:1 {"id":"1"}`, `SET user:2 {"id":"2"}`)
	d := open(t, s.URL(), Config{})
	known := func(subject string) bool {
		var account accounts.Account
		source, err := d.Lookup(context.Background(), accounts.Query{Query: directories.Query{Subject: []byte(subject)}, Now: time.Now()}, &account)
		return err == nil && account.Exists && source == accounts.FromCache
	}
	eventually.Holds(t, "both users are cached", func() bool { return known("1") && known("2") && d.Stats().Watching })
	do(t, s, "DEL user:1")
	eventually.Holds(t, "the deletion is noticed", func() bool { return verdict(t, d, "1") == "gone" })
	if !known("2") {
		t.Error("another user was dropped, too")
	}
	do(t, s, `SET user:1 {"id":"1"}`)
	eventually.Holds(t, "the insertion is noticed", func() bool { return verdict(t, d, "1") == "live" })
	do(t, s, "FLUSHALL")
	eventually.Holds(t, "a flush is noticed", func() bool { return verdict(t, d, "1") == "gone" && verdict(t, d, "2") == "gone" })
}

func TestAMissingUserIsGoneOnlyIfThatIsProven(t *testing.T) {
	master := start(t)
	replica, err := master.Replica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Close() })
	locked := start(t, "user default on nopass ~* +@all -info")
	for name, c := range map[string]struct {
		server *redistest.Server
		config Config
		want   string
	}{
		"replica":                         {replica, Config{}, "standby"},
		"evicts":                          {start(t, "maxmemory 50mb", "maxmemory-policy allkeys-lru"), Config{}, "standby"},
		"no right to INFO":                {locked, Config{}, "rights"},
		"no right to the keys":            {start(t, "user default on nopass ~other:* +@all"), Config{}, "rights"},
		"evicts only keys that expire":    {start(t, "maxmemory 50mb", "maxmemory-policy volatile-lru"), Config{}, "gone"},
		"evicts, but has no memory limit": {start(t, "maxmemory-policy allkeys-lru"), Config{}, "gone"},
		"evicts, but no_eviction is set":  {start(t, "maxmemory 50mb", "maxmemory-policy allkeys-lru"), Config{NoEviction: true}, "gone"},
		"master":                          {master, Config{}, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := verdict(t, open(t, c.server.URL(), c.config), "nobody"); got != c.want {
				t.Errorf("a missing user is %s, want %s", got, c.want)
			}
		})
	}
}

func TestAReplicaConfirmsThatAUserExists(t *testing.T) {
	master := start(t)
	do(t, master, `SET user:1 {"id":"1"}`)
	replica, err := master.Replica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Close() })
	d := open(t, replica.URL(), Config{})
	eventually.Holds(t, "the user is replicated", func() bool { return verdict(t, d, "1") == "live" })
}

// TestAUserOfAnotherTypeIsConfirmed has users that are hashes, and one that is JSON.
func TestAUserOfAnotherTypeIsConfirmed(t *testing.T) {
	s := start(t)
	do(t, s, "HSET user:1 id 1", `SET user:2 {"id":"2"}`)
	d := open(t, s.URL(), Config{})
	for _, subject := range []string{"1", "2", "1", "2"} {
		if got := confirmed(t, d, subject); got != "live" {
			t.Errorf("%s is %s", subject, got)
		}
	}
}

// TestWhatAReplicaSaysOfAUserEndsNoSession has a replica whose user is still banned.
func TestWhatAReplicaSaysOfAUserEndsNoSession(t *testing.T) {
	master := start(t)
	const banned = `SET user:1 {"id":"1","banned":true}`
	do(t, master, banned)
	replica, err := master.Replica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Close() })
	for name, c := range map[string]struct {
		server *redistest.Server
		config Config
		want   string
	}{
		"master":                        {master, Config{}, "disabled"},
		"replica":                       {replica, Config{}, "standby"},
		"no right to INFO":              {start(t, "user default on nopass ~* +@all -info"), Config{}, "rights"},
		"only the right to its role":    {start(t, "user default on nopass ~* +@all -info +info|replication"), Config{NoEviction: true}, "disabled"},
		"evicts keys, but not this one": {start(t, "maxmemory 50mb", "maxmemory-policy allkeys-lru"), Config{}, "disabled"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.server != replica && c.server != master {
				do(t, c.server, banned)
			}
			c.config.Disabled = []string{"banned"}
			d := open(t, c.server.URL(), c.config)
			eventually.Holds(t, "the ban is there", func() bool { return verdict(t, d, "1") == "disabled" })
			if got := confirmed(t, open(t, c.server.URL(), c.config), "1"); got != c.want {
				t.Errorf("the ban is %s, want %s", got, c.want)
			}
		})
	}
}

func TestNoSessionEndsWhileRedisIsDown(t *testing.T) {
	s := start(t)
	do(t, s, `SET user:1 {"id":"1"}`)
	d := open(t, s.URL(), Config{})
	if got := verdict(t, d, "1"); got != "live" {
		t.Fatal(got)
	}
	// Once it watches, it looks all users up again.
	eventually.Holds(t, "it watches, and the user is known", func() bool { return d.Stats().Watching && verdict(t, d, "1") == "live" })
	t.Run("hangs", func(t *testing.T) {
		if err := s.Pause(); err != nil {
			t.Fatal(err)
		}
		if got := verdict(t, d, "other"); got != "slow" && got != "down" {
			t.Errorf("an unknown user is %s", got)
		}
		if got := verdict(t, d, "1"); got != "live" {
			t.Errorf("a known user is %s", got)
		}
		if err := s.Resume(); err != nil {
			t.Fatal(err)
		}
		eventually.Holds(t, "Redis answers again", func() bool { return verdict(t, d, "other") == "gone" && verdict(t, d, "1") == "live" })
	})
	t.Run("killed", func(t *testing.T) {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			for _, subject := range []string{"1", "other", "third"} {
				switch got := verdict(t, d, subject); {
				case subject == "1" && got != "live", subject == "third" && got == "gone":
					t.Fatalf("%s is %s", subject, got)
				}
			}
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		do(t, s, `SET user:1 {"id":"1"}`)
		eventually.Holds(t, "Redis answers again", func() bool { return verdict(t, d, "1") == "live" && verdict(t, d, "other") == "gone" })
		if !strings.HasPrefix(d.String(), "redis at 127.0.0.1:") {
			t.Error(d.String())
		}
	})
	t.Run("out of memory", func(t *testing.T) {
		do(t, s, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory-policy noeviction")
		d := open(t, s.URL(), Config{})
		if got := verdict(t, d, "1"); got != "live" {
			t.Errorf("an existing user is %s", got)
		}
		if got := verdict(t, d, "other"); got == "live" {
			t.Errorf("a missing user is %s", got)
		}
	})
}

func TestAFailoverBySentinelEndsNoSession(t *testing.T) {
	master := start(t)
	do(t, master, `SET user:1 {"id":"1"}`)
	replica, err := master.Replica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Close() })
	eventually.Holds(t, "the user is replicated", func() bool {
		text, err := replica.Do(t.Context(), "GET", "user:1")
		return err == nil && strings.Contains(text, `"id":"1"`)
	})
	sentinel, err := master.Sentinel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sentinel.Close() })
	eventually.Holds(t, "the Sentinel knows the replica", func() bool {
		text, err := sentinel.Do(t.Context(), "SENTINEL", "REPLICAS", "users")
		return err == nil && strings.Contains(text, strings.TrimPrefix(replica.Address(), "127.0.0.1:"))
	})
	d := open(t, sentinel.URL()+"?master_set=users", Config{})
	if got := verdict(t, d, "1"); got != "live" {
		t.Fatal(got)
	}
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the replica has taken over", func() bool {
		if got := verdict(t, d, "1"); got == "gone" {
			t.Fatal("an existing user is gone")
		}
		return verdict(t, d, "nobody") == "gone" // only a master proves that
	})
	do(t, replica, "DEL user:1")
	eventually.Holds(t, "changes of the new master are noticed", func() bool { return verdict(t, d, "1") == "gone" })
}

func TestTheLeastRightsAreEnough(t *testing.T) {
	s := start(t, "user default off", "user reader on >s3cret ~user:* %R~user:* resetchannels -@all +get +hgetall +info +ping +hello +client")
	d := open(t, "redis://reader:s3cret@"+s.Address(), Config{})
	if got := verdict(t, d, "1"); got != "gone" {
		t.Errorf("a missing user is %s: %s", got, d.Stats().Failure)
	}
	wrong := open(t, "redis://reader:other@"+s.Address(), Config{})
	if got := verdict(t, wrong, "1"); got != "refused" && got != "down" {
		t.Errorf("with a wrong password, a user is %s", got)
	}
	for _, text := range []string{d.String(), wrong.String(), wrong.Stats().Failure} {
		if strings.Contains(text, "s3cret") || strings.Contains(text, "reader") || strings.Contains(text, "other@") {
			t.Errorf("%q holds the user or the password", text)
		}
	}
}

func TestInvalidConfigurations(t *testing.T) {
	for _, c := range []struct{ url, key, wrong string }{
		{"redis://x", "user:1", "must contain {subject} once"},
		{"redis://x", "{subject}{subject}", "must contain {subject} once"},
		{"http://user:s3cret@x", "", "must be redis://"},
		{"redis://user:s3cret@x/%zz", "", "must be redis://"},
		{"redis://user:12?s3cret@x", "", "percent-encoded"},
		{"redis://user:12#s3cret@x", "", "percent-encoded"},
		{"redis://user:12/s3cret@x/0", "", "percent-encoded"},
		{"redis://x,password=s3cret:6379", "", "percent-encoded"},
		{"redis:user:s3cret@x", "", "must be redis://"},
		{"x:6379,password=s3cret,ssl=True", "", "must be redis://"},
	} {
		_, err := NewDirectory(Config{Key: c.key, URL: func() (string, error) { return c.url, nil }})
		if err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s %s: error %v, want %q", c.url, c.key, err, c.wrong)
		}
	}
}

// What stands in place of the password shows nowhere, whatever it is.
func FuzzURL(f *testing.F) {
	for _, password := range []string{"Sec?ret", "a#bcdef", "12/ret@x", ")u&rI5]Fl|1)q~5?7G}", "%41", "p@ss:word", "1234?5678", "h,password=p", "Kp@ssWq"} {
		f.Add(password)
	}
	f.Fuzz(func(t *testing.T, password string) {
		for _, form := range []string{"redis://app:%s@127.0.0.1:6379/0", "rediss://:%s@127.0.0.1?master_set=m", "redis://127.0.0.1,password=%s", "unix://u:%s@/s", "redis:app:%s@127.0.0.1"} {
			url := strings.Replace(form, "%s", password, 1)
			c, err := Open(func() (string, error) { return url, nil }, "", nil)
			shown := c.String() + Describe(err)
			if err != nil {
				shown += err.Error()
			}
			if plain := errURL.Error() + errEscape.Error() + "redis at 127.0.0.1:6379 (m), database 0 /s no connection to Redis"; holdsPiece(shown, password, plain) {
				t.Errorf("%s: %s", url, shown)
			}
		}
	})
}

// holdsPiece reports whether a text has four characters in a row of a password that
// the plain text does not have.
func holdsPiece(text, password, plain string) bool {
	for i := 0; i+4 <= len(password); i++ {
		if piece := password[i : i+4]; strings.Contains(text, piece) && !strings.Contains(plain, piece) {
			return true
		}
	}
	return false
}

// SWAPDB reports no key as changed.
func TestDatabasesThatAreSwappedAreNoticed(t *testing.T) {
	s := start(t)
	do(t, s, `SET user:1 {"id":"1"}`)
	directory, err := NewDirectory(Config{URL: func() (string, error) { return s.URL(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	e := accounts.Open(directory, accounts.Config{Timeout: time.Minute, TTL: time.Hour, AbsentTTL: time.Hour})
	t.Cleanup(func() { _ = e.Close() })
	for _, want := range []string{"live", "gone", "live"} {
		eventually.Holds(t, "the user is "+want, func() bool { return verdict(t, e, "1") == want })
		eventually.Holds(t, "the answer is cached", func() bool {
			var account accounts.Account
			source, err := e.Lookup(t.Context(), accounts.Query{Query: directories.Query{Subject: []byte("1")}, Now: time.Now()}, &account)
			return err == nil && source == accounts.FromCache && account.Exists == (want == "live")
		})
		do(t, s, "SWAPDB 0 1")
	}
}
