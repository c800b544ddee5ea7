package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

func TestTheDoctorWarnsOfIDsThatAreUsedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema string
		users  Users
		says   string // empty for nothing
	}{
		"integers":                    {`create table users (id serial primary key, created_at timestamptz, email text)`, Users{}, "only created_at tells"},
		"integers without a time":     {`create table users (id bigserial primary key, email text)`, Users{}, "nothing tells"},
		"integers, and e-mail":        {`create table users (id serial primary key, email text)`, Users{Match: map[string]string{"email": "email"}}, ""},
		"UUIDs":                       {`create table users (id uuid primary key)`, Users{}, ""},
		"text":                        {`create table users (id text primary key)`, Users{}, ""},
		"the large numbers of Google": {`create table users (id numeric(21,0) primary key)`, Users{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := open(t, server.DSN(database(t, c.schema)), Config{Users: c.users})
			found := d.Diagnose(t.Context())
			i := slices.IndexFunc(found, func(f directories.Finding) bool { return strings.HasPrefix(f.Text, "ids are integers") })
			switch {
			case c.says == "" && i >= 0:
				t.Errorf("it says %q", found[i].Text)
			case c.says != "" && i < 0:
				t.Errorf("it does not warn: %+v", found)
			case c.says != "" && (!strings.Contains(found[i].Text, c.says) || found[i].Level != directories.Note || !strings.Contains(found[i].Remedy, "`match email email`")):
				t.Errorf("it says %+v", found[i])
			}
		})
	}
}
