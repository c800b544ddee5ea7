package postgres

import (
	"bytes"
	"strings"
	"testing"
)

func TestSubjectsThatCannotBeIDsNeverReachTheDatabase(t *testing.T) { // not parallel: it reads the log of the shared server
	name := database(t, `create table users (id int primary key); insert into users values (1)`)
	d, _ := open(t, server.DSN(name), Config{})
	lookup(t, d, "1")
	before := strings.Count(server.Log(), "ERROR:")
	for _, subject := range []string{"abc", "", "\x00", "1\x00", "\xff", "99999999999", strings.Repeat("1", 300), "1;drop table users"} {
		if lookup(t, d, subject).Exists {
			t.Errorf("%q was found", subject)
		}
	}
	if after := strings.Count(server.Log(), "ERROR:"); after != before {
		t.Errorf("the server has logged %d errors", after-before)
	}
}

func FuzzSubject(f *testing.F) {
	for _, subject := range []string{"1", "-1", "+1", "01", "9223372036854775808", "7D444840-9dc0-11d1-b245-5ffdce74fad2", "\xff", "", " 1", "1\x00"} {
		f.Add(subject)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		for _, name := range []string{"text", "uuid", "smallint", "integer", "bigint", "character", "public.citext", "numeric"} {
			id, ok := idTypeOf(name)
			if !ok {
				t.Fatalf("%s is unknown", name)
			}
			canonical, possible := id.canonical([]byte(subject))
			if !possible {
				continue
			}
			if again, still := id.canonical(canonical); !still || !bytes.Equal(again, canonical) {
				t.Errorf("%s: %q is %q, which is %q", name, subject, canonical, again)
			}
		}
	})
}
