package postgres

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// binaryFormat is the format of the statement's parameter and rows: it is cheaper
// than text for both sides.
var binaryFormat = []int16{pgtype.BinaryFormatCode}

// textArray encodes a text[] in binary format.
func textArray(texts []string) []byte {
	size := 20
	for _, text := range texts {
		size += 4 + len(text)
	}
	b := make([]byte, 0, size)
	for _, n := range [...]int{1, 0, pgtype.TextOID, len(texts), 1} { // one dimension, no NULLs, lower bound 1
		b = appendInt(b, n)
	}
	for _, text := range texts {
		b = append(appendInt(b, len(text)), text...)
	}
	return b
}

func appendInt(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) } //nolint:gosec // a length

// maxOtherRows is how many more rows of one subject are read.
const maxOtherRows = 64

// scan reads the rows of the statement, in any order, into the accounts in the
// order of the subjects. Each subject has at least one row, and more if its id is
// not unique.
func (s *statement) scan(types *pgtype.Map, rows *pgconn.ResultReader, accounts []directories.Account) error {
	answered, left := make([]bool, len(accounts)), len(accounts)
	var err error
	var server serverName
	for rows.NextRow() && err == nil {
		row := rows.Values()
		at := binary.BigEndian.Uint64(row[0]) - 1
		found := directories.Account{Exists: isTrue(row[1]), Disabled: isTrue(row[5]), Replica: isTrue(row[2]), Server: server.of(row[7])}
		if found.Exists {
			found.CreatedAt, found.ValidAfter = moment(row[3]), moment(row[4])
			if len(s.matched) > 0 {
				err = types.Scan(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, row[6], &found.Matched)
			}
		}
		switch a := &accounts[at]; {
		case !answered[at]:
			answered[at] = true
			left--
			*a = found
		case len(a.Others) == maxOtherRows:
			a.Failure = schemaError("more than %d rows have the id of one session: name the column that identifies a user as `id`", maxOtherRows)
		case found.Exists:
			a.Others = append(a.Others, found)
		}
	}
	if _, failed := rows.Close(); failed != nil {
		return failed
	}
	if err == nil && left > 0 {
		return schemaError("the database did not return a row for each subject: `query` is wrong")
	}
	return err
}

// serverName identifies the server of some rows by its start time, because a
// pooler or a DNS name for several servers hides its address.
type serverName struct {
	started uint64
	name    string
}

// of returns the name for a start time, a float8 of seconds since 1970.
func (n *serverName) of(started []byte) string {
	if bits := binary.BigEndian.Uint64(started); bits != n.started || n.name == "" {
		n.started, n.name = bits, strconv.FormatUint(bits, 16)
	}
	return n.name
}

// isTrue reports whether a boolean is true.
func isTrue(value []byte) bool { return len(value) == 1 && value[0] != 0 }

// moment returns the time of a float8 of seconds since 1970; zero for NULL.
func moment(value []byte) time.Time {
	if value == nil {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Float64frombits(binary.BigEndian.Uint64(value)) * 1e6))
}
