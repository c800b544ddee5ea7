package accounts

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
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
	// Another account had this subject, or nobody, until replaced; 0 if that is not
	// known. Former is when that of an absence was created.
	replaced instant
	former   time.Time
	doubted  bool   // see Doubted
	encoded  []byte // what the columns are parts of
	scratch  [64]byte
	columns  [2][]byte
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
	flagMore // further flags follow the times
)

// Further flags, which few accounts have.
const (
	moreOthers = 1 << iota // there are further accounts
	moreReplaced
	moreFormer
	moreDoubted
)

// noTime stands for the zero time.
const noTime = math.MinInt64

// askedBytes are enough for the microseconds of thousands of years.
const askedBytes = 7

// appendTo appends an account without a pointer in it: flags, the window, when it
// was asked for, the times that there are, further flags and what they tell of, the
// values to match, and further accounts. What changes while an account is known
// keeps its length, so that it is written over in its place. Opened is when the
// directory's clock began.
func (a *Account) appendTo(b []byte, opened time.Time) []byte {
	flags := flagIf(a.Exists, flagExists) | flagIf(a.Disabled, flagDisabled) | flagIf(a.Replica, flagReplica) | flagIf(a.watched, flagWatched) |
		flagIf(!a.CreatedAt.IsZero(), flagCreatedAt) | flagIf(!a.ValidAfter.IsZero(), flagValidAfter) | flagIf(!a.asOfBegan(opened), flagAsOf)
	more := flagIf(len(a.Others) > 0, moreOthers) | flagIf(a.replaced != 0, moreReplaced) | flagIf(!a.former.IsZero(), moreFormer) |
		flagIf(a.doubted, moreDoubted)
	flags |= flagIf(more != 0, flagMore)
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint32(b, a.window)
	b = appendInstant(b, a.asked)
	if flags&flagCreatedAt != 0 {
		b = appendTime(b, a.CreatedAt)
	}
	if flags&flagValidAfter != 0 {
		b = appendTime(b, a.ValidAfter)
	}
	if flags&flagAsOf != 0 {
		b = appendTime(b, a.AsOf)
	}
	if more != 0 {
		b = append(b, more)
	}
	if more&moreReplaced != 0 {
		b = appendInstant(b, a.replaced)
	}
	if more&moreFormer != 0 {
		b = appendTime(b, a.former)
	}
	if len(a.Others) == 0 {
		return appendTexts(b, a.Matched)
	}
	b = appendCounted(b, a.Matched)
	for i := range a.Others {
		b = appendOther(b, &a.Others[i])
	}
	return b
}

// appendTexts appends texts, each after its length plus one, 0 for nil.
func appendTexts(b []byte, texts [][]byte) []byte {
	for _, text := range texts {
		if text == nil {
			b = append(b, 0)
		} else {
			b = append(binary.AppendUvarint(b, uint64(len(text))+1), text...)
		}
	}
	return b
}

// appendCounted appends texts after their number.
func appendCounted(b []byte, texts [][]byte) []byte {
	return appendTexts(binary.AppendUvarint(b, uint64(len(texts))), texts)
}

// appendOther appends one of Account.Others: flags, the times that there are,
// and the values to match.
func appendOther(b []byte, a *directories.Account) []byte {
	b = append(b, flagIf(a.Disabled, flagDisabled)|flagIf(!a.CreatedAt.IsZero(), flagCreatedAt)|flagIf(!a.ValidAfter.IsZero(), flagValidAfter))
	for _, t := range []time.Time{a.CreatedAt, a.ValidAfter} {
		if !t.IsZero() {
			b = appendTime(b, t)
		}
	}
	return appendCounted(b, a.Matched)
}

// cutOther reads what appendOther has written at the beginning of b.
func cutOther(b []byte) (a directories.Account, rest []byte) {
	flags := b[0]
	a.Exists, a.Disabled, b = true, flags&flagDisabled != 0, b[1:]
	if flags&flagCreatedAt != 0 {
		a.CreatedAt, b = cutTime(b)
	}
	if flags&flagValidAfter != 0 {
		a.ValidAfter, b = cutTime(b)
	}
	a.Matched, b = cutCounted(nil, b)
	return a, b
}

// cutText reads the text at the beginning of b.
func cutText(b []byte) (text, rest []byte) {
	length, n := binary.Uvarint(b)
	if b = b[n:]; length == 0 {
		return nil, b
	}
	return b[: length-1 : length-1], b[length-1:]
}

// cutCounted appends the texts that appendCounted has written at the beginning
// of b.
func cutCounted(texts [][]byte, b []byte) (all [][]byte, rest []byte) {
	count, n := binary.Uvarint(b)
	b = b[n:]
	for range count {
		var text []byte
		text, b = cutText(b)
		texts = append(texts, text)
	}
	return texts, b
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

// appendInstant appends an instant in microseconds.
func appendInstant(b []byte, i instant) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(i/instant(time.Microsecond)))[:len(b)+askedBytes] //nolint:gosec // read back as it was
}

// cutInstant reads the instant at the beginning of b.
func cutInstant(b []byte) (i instant, rest []byte) {
	var encoded [8]byte
	copy(encoded[8-askedBytes:], b)
	i = instant(binary.LittleEndian.Uint64(encoded[:])) >> (64 - 8*askedBytes) * instant(time.Microsecond) //nolint:gosec // as it was written
	return i, b[askedBytes:]
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
	a.asked, b = cutInstant(b)
	a.CreatedAt, a.ValidAfter, a.AsOf = time.Time{}, time.Time{}, a.began(opened)
	a.Server, a.Failure, a.Unconfirmed = "", nil, false
	a.replaced, a.former = 0, time.Time{}
	if flags&flagCreatedAt != 0 {
		a.CreatedAt, b = cutTime(b)
	}
	if flags&flagValidAfter != 0 {
		a.ValidAfter, b = cutTime(b)
	}
	if flags&flagAsOf != 0 {
		a.AsOf, b = cutTime(b)
	}
	var more byte
	if flags&flagMore != 0 {
		more, b = b[0], b[1:]
	}
	a.doubted = more&moreDoubted != 0
	if more&moreReplaced != 0 {
		a.replaced, b = cutInstant(b)
	}
	if more&moreFormer != 0 {
		a.former, b = cutTime(b)
	}
	a.Matched, a.Others = a.columns[:0], nil
	if more&moreOthers == 0 {
		for len(b) > 0 {
			var text []byte
			text, b = cutText(b)
			a.Matched = append(a.Matched, text)
		}
		return
	}
	a.Matched, b = cutCounted(a.Matched, b)
	for len(b) > 0 {
		var other directories.Account
		other, b = cutOther(b)
		a.Others = append(a.Others, other)
	}
}
