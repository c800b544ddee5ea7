package cleanup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// counted is what is stored once a run has counted what is deleted.
type counted struct {
	Sessions string    `json:"sessions"`
	Users    string    `json:"users"`
	At       time.Time `json:"at"`
}

// file returns where it is stored whether there was a run for a table. It names what
// decides which rows are deleted: the database, whatever its address is, the tables
// and the columns.
func (j *Job) file(ctx context.Context, conn *pgx.Conn, s sessions) (string, error) {
	identity, err := j.users.Identify(ctx, conn)
	if err != nil {
		return "", err
	}
	database := identity.String()
	if database == "" { // the role may not know it
		database = j.users.String()
	}
	digest := sha256.Sum256([]byte(strings.Join([]string{database, s.table, s.user, s.expires, s.users, s.id, fmt.Sprint(s.zoned, s.referenced)}, "\n")))
	return "stale_session/cleanup/" + hex.EncodeToString(digest[:16]) + ".json", nil
}

// firstFor reports whether no run has counted yet what is deleted of a table.
func (j *Job) firstFor(ctx context.Context, conn *pgx.Conn, s sessions) (bool, error) {
	file, err := j.file(ctx, conn, s)
	if err != nil {
		return false, err
	}
	_, err = j.config.Storage.Load(ctx, file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("reading from Caddy's storage whether this is the first run: %w", err)
	}
	return false, nil
}

// remember stores that a run has counted what is deleted of a table.
func (j *Job) remember(ctx context.Context, conn *pgx.Conn, s sessions) error {
	file, err := j.file(ctx, conn, s)
	if err != nil {
		return err
	}
	text, err := json.Marshal(counted{s.table, s.users, time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	if err := j.config.Storage.Store(ctx, file, text); err != nil {
		return fmt.Errorf("nothing is deleted until Caddy's storage can keep that there was a first run: %w", err)
	}
	return nil
}
