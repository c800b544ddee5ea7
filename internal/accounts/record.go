package accounts

import (
	"encoding/binary"
	"math"
	"time"
)

// instant is a time on the clock of the process, in nanoseconds since the
// directory was opened, to the microsecond. It does not jump when somebody sets
// the clock.
type instant int64

// record is what the cache holds of an account beside what is exported.
type record struct {
	asked   instant // when its lookup began
	watched bool    // the server that the watch is connected to has answered
	window  uint32  // in which it was used last, see recent
	encoded []byte  // what the columns are parts of
	scratch [64]byte
	columns [2][]byte
}

// Flags of an encoded account. Those of times tell that there is one.
const (
	flagExists = 1 << iota
	flagDisabled
	flagReplica
	flagWatched
	flagCreatedAt
	flagValidAfter
	flagAsOf // another time than that at which its lookup began
)

// noTime stands for the zero time.
const noTime = math.MinInt64

// askedBytes are enough for the microseconds of thousands of years.
const askedBytes = 7

// appendTo appends an account without a pointer in it: flags, the window, when
// it was asked for, the times that there are, and the columns, each after its
// length plus one, 0 for a NULL. What changes while an account is known keeps
// its length, so that it is written over in its place. Opened is when the
// directory's clock began.
func (a *Account) appendTo(b []byte, opened time.Time) []byte {
	flags := flagIf(a.Exists, flagExists) | flagIf(a.Disabled, flagDisabled) | flagIf(a.Replica, flagReplica) | flagIf(a.watched, flagWatched) |
		flagIf(!a.CreatedAt.IsZero(), flagCreatedAt) | flagIf(!a.ValidAfter.IsZero(), flagValidAfter) | flagIf(!a.asOfBegan(opened), flagAsOf)
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint32(b, a.window)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.asked/instant(time.Microsecond)))[:len(b)+askedBytes] //nolint:gosec // read back as it was
	if flags&flagCreatedAt != 0 {
		b = appendTime(b, a.CreatedAt)
	}
	if flags&flagValidAfter != 0 {
		b = appendTime(b, a.ValidAfter)
	}
	if flags&flagAsOf != 0 {
		b = appendTime(b, a.AsOf)
	}
	for _, column := range a.Matched {
		if column == nil {
			b = append(b, 0)
		} else {
			b = append(binary.AppendUvarint(b, uint64(len(column))+1), column...)
		}
	}
	return b
}

// began is when the lookup of an account began.
func (a *Account) began(opened time.Time) time.Time { return opened.Add(time.Duration(a.asked)) }

// asOfBegan tells whether AsOf is when the lookup began, by the wall clock too.
func (a *Account) asOfBegan(opened time.Time) bool {
	after := a.AsOf.Round(0).Sub(a.began(opened).Round(0))
	return 0 <= after && after < time.Microsecond
}

func flagIf(set bool, flag byte) byte {
	if set {
		return flag
	}
	return 0
}

// appendTime appends a time in microseconds since 1970.
func appendTime(b []byte, t time.Time) []byte {
	micros := int64(noTime)
	if !t.IsZero() {
		micros = t.UnixMicro()
	}
	return binary.LittleEndian.AppendUint64(b, uint64(micros)) //nolint:gosec // read back as it was
}

// cutTime reads the time at the beginning of b.
func cutTime(b []byte) (t time.Time, rest []byte) {
	if micros := int64(binary.LittleEndian.Uint64(b)); micros != noTime { //nolint:gosec // as it was written
		t = time.UnixMicro(micros)
	}
	return t, b[8:]
}

// decode reads a.encoded back, of which the columns become parts.
func (a *Account) decode(opened time.Time) {
	flags, b := a.encoded[0], a.encoded[1:]
	a.Exists, a.Disabled = flags&flagExists != 0, flags&flagDisabled != 0
	a.Replica, a.watched = flags&flagReplica != 0, flags&flagWatched != 0
	a.window, b = binary.LittleEndian.Uint32(b), b[4:]
	var asked [8]byte
	copy(asked[8-askedBytes:], b)
	a.asked = instant(binary.LittleEndian.Uint64(asked[:])) >> (64 - 8*askedBytes) * instant(time.Microsecond) //nolint:gosec // as it was written
	b = b[askedBytes:]
	a.CreatedAt, a.ValidAfter, a.AsOf = time.Time{}, time.Time{}, a.began(opened)
	a.Server, a.Failure = "", nil
	if flags&flagCreatedAt != 0 {
		a.CreatedAt, b = cutTime(b)
	}
	if flags&flagValidAfter != 0 {
		a.ValidAfter, b = cutTime(b)
	}
	if flags&flagAsOf != 0 {
		a.AsOf, b = cutTime(b)
	}
	a.Matched = a.columns[:0]
	for len(b) > 0 {
		length, n := binary.Uvarint(b)
		b = b[n:]
		if length == 0 {
			a.Matched = append(a.Matched, nil)
			continue
		}
		a.Matched = append(a.Matched, b[:length-1:length-1])
		b = b[length-1:]
	}
}
