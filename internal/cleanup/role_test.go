package cleanup

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheRoleOfTheDocumentationIsEnough creates it with exactly that SQL.
func TestTheRoleOfTheDocumentationIsEnough(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	sql := regexp.MustCompile("(?s)```sql\n(CREATE ROLE caddy_session_cleanup .*?)```").FindSubmatch(page)
	if sql == nil {
		t.Fatal("docs/operations.md has no SQL for the role")
	}
	s := schemas["Prisma"]
	dsn := database(t, s.users, s.sessions, `revoke all on schema public from public`, fmt.Sprintf(s.person, "1"),
		fmt.Sprintf(s.row, "1", "1", "1 day"), fmt.Sprintf(s.row, "2", "1", s.old), fmt.Sprintf(s.row, "3", "2", "1 day"), string(sql[1]))
	t.Cleanup(func() {
		if err := server.Exec(context.Background(), strings.TrimPrefix(dsn[strings.LastIndex(dsn, "/"):strings.Index(dsn, "?")], "/"), `drop owned by caddy_session_cleanup`, `drop role caddy_session_cleanup`); err != nil {
			t.Error(err)
		}
	})
	j, _ := start(t, strings.Replace(dsn, "postgres@", "caddy_session_cleanup@", 1), Config{})
	for range 2 {
		if err := clean(t, j); err != nil {
			t.Fatal(err)
		}
	}
	if got := left(t, dsn, s.table); got != "1" {
		t.Errorf("left: %s", got)
	}
}
