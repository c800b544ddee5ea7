package directory

import (
	"encoding/binary"
	"math"
	"time"
)

// instant is a time on the clock of the process, in nanoseconds since the
// directory was opened. It does not jump when somebody sets the clock.
type instant int64

// record is what the cache holds of an account beside what is exported.
type record struct {
	asked   instant // when its lookup began
	standby bool    // a standby server has answered
	watched bool    // the server that the watch is connected to has answered
	window  uint32  // in which it was used last, see recent
	encoded []byte  // what the columns are parts of
	scratch [96]byte
	columns [2][]byte
}

// Flags of an encoded account.
const (
	flagExists = 1 << iota
	flagDisabled
	flagStandby
	flagWatched
)

// noTime stands for the zero time.
const noTime = math.MinInt64

// encode writes an account without a pointer in it: flags, times, the window,
// and the columns, each after its length plus one, 0 for a NULL.
func (a *Account) encode() []byte {
	var flags byte
	for flag, set := range map[byte]bool{flagExists: a.Exists, flagDisabled: a.Disabled, flagStandby: a.standby, flagWatched: a.watched} {
		if set {
			flags |= flag
		}
	}
	b := append(make([]byte, 0, 64), flags)
	b = binary.LittleEndian.AppendUint32(b, a.window)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.asked)) //nolint:gosec // read back as it was
	for _, t := range [...]time.Time{a.AsOf, a.CreatedAt, a.ValidAfter} {
		micros := int64(noTime)
		if !t.IsZero() {
			micros = t.UnixMicro()
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(micros)) //nolint:gosec // read back as it was
	}
	for _, column := range a.Columns {
		if column == nil {
			b = append(b, 0)
		} else {
			b = append(binary.AppendUvarint(b, uint64(len(column))+1), column...)
		}
	}
	return b
}

// decode reads a.encoded back, of which the columns become parts.
func (a *Account) decode() {
	flags, b := a.encoded[0], a.encoded[1:]
	a.Exists, a.Disabled = flags&flagExists != 0, flags&flagDisabled != 0
	a.standby, a.watched = flags&flagStandby != 0, flags&flagWatched != 0
	a.window, b = binary.LittleEndian.Uint32(b), b[4:]
	a.asked, b = instant(binary.LittleEndian.Uint64(b)), b[8:] //nolint:gosec // as it was written
	for _, t := range [...]*time.Time{&a.AsOf, &a.CreatedAt, &a.ValidAfter} {
		*t = time.Time{}
		if micros := int64(binary.LittleEndian.Uint64(b)); micros != noTime { //nolint:gosec // as it was written
			*t = time.UnixMicro(micros)
		}
		b = b[8:]
	}
	a.Columns = a.columns[:0]
	for len(b) > 0 {
		length, n := binary.Uvarint(b)
		b = b[n:]
		if length == 0 {
			a.Columns = append(a.Columns, nil)
			continue
		}
		a.Columns = append(a.Columns, b[:length-1:length-1])
		b = b[length-1:]
	}
}
