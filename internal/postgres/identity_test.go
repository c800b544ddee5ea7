package postgres

import "testing"

// With `poll off`, a database sleeps unless something asks it.
func TestTheDatabaseIsAskedOnceWhoseUsersItHas(t *testing.T) {
	t.Parallel()
	d, _ := open(t, server.DSN(database(t, oneUser)), Config{})
	users := d.Identity(t.Context())
	if users.String() == "" {
		t.Fatal("they are not identified")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if again := d.Identity(t.Context()); again != users {
		t.Errorf("asked again: %q", again)
	}
}
