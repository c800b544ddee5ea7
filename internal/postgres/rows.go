package postgres

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
)

// binaryFormat is that of the statement's parameter and of its rows: it costs
// both sides less than text.
var binaryFormat = []int16{pgtype.BinaryFormatCode}

// textArray writes a text[] as the server receives it.
func textArray(texts []string) []byte {
	size := 20
	for _, text := range texts {
		size += 4 + len(text)
	}
	b := make([]byte, 0, size)
	for _, n := range [...]int{1, 0, pgtype.TextOID, len(texts), 1} { // of one dimension, without NULLs, from 1 on
		b = appendInt(b, n)
	}
	for _, text := range texts {
		b = append(appendInt(b, len(text)), text...)
	}
	return b
}

func appendInt(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) } //nolint:gosec // a length

// scan reads the rows of the statement: one for each subject, in any order. It
// fills the accounts in by the place of their subject, counted from 0.
func (s *statement) scan(types *pgtype.Map, rows *pgconn.ResultReader, accounts []directories.Account) error {
	answered, left := make([]bool, len(accounts)), len(accounts)
	var err error
	for rows.NextRow() && err == nil {
		row := rows.Values()
		at := binary.BigEndian.Uint64(row[0]) - 1
		if !answered[at] {
			answered[at] = true
			left--
		}
		a := &accounts[at]
		*a = directories.Account{Exists: isTrue(row[1]), Disabled: isTrue(row[5]), Replica: isTrue(row[2])}
		if !a.Exists {
			continue
		}
		a.CreatedAt, a.ValidAfter = moment(row[3]), moment(row[4])
		if len(s.matched) > 0 {
			err = types.Scan(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, row[6], &a.Matched)
		}
	}
	if _, failed := rows.Close(); failed != nil {
		return failed
	}
	if err == nil && left > 0 {
		return schemaError("the database has not answered for each subject: `query` is wrong")
	}
	return err
}

// isTrue reads a boolean.
func isTrue(value []byte) bool { return len(value) == 1 && value[0] != 0 }

// moment is the time of a float8 of seconds since 1970, zero for none.
func moment(value []byte) time.Time {
	if value == nil {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Float64frombits(binary.BigEndian.Uint64(value)) * 1e6))
}
