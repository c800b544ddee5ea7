package session

import (
	"encoding/binary"
	"math"
	"time"
)

// The flags of encoded claims.
const (
	flagMintedAt = 1 << iota
	flagExpiresAt
	flagIssuedAt // IssuedAt differs from MintedAt
	flagPrecise  // times are microseconds in 64 bits, because they are not seconds in 32 bits
	flagLasting
	flagMade
	flagGuessed
	flagSessionID
)

// noTime encodes the zero time.
const noTime = math.MinInt64

// appendTo appends the encoded claims to b: flags, the times that are present,
// then the subject, the session's id and the claims to match, each preceded by its
// length plus one. A length of 0 encodes nil.
func (c *Claims) appendTo(b []byte) []byte {
	var flags byte
	var times [3]time.Time
	n := 0
	for _, t := range [...]struct {
		flag    byte
		time    time.Time
		present bool
	}{
		{flagMintedAt, c.MintedAt, !c.MintedAt.IsZero()},
		{flagExpiresAt, c.ExpiresAt, !c.ExpiresAt.IsZero()},
		{flagIssuedAt, c.IssuedAt, !c.IssuedAt.Equal(c.MintedAt)},
	} {
		if !t.present {
			continue
		}
		flags |= t.flag
		times[n] = t.time
		n++
		if seconds := t.time.Unix(); seconds < 0 || seconds > math.MaxUint32 || t.time.Nanosecond() != 0 {
			flags |= flagPrecise
		}
	}
	if c.Lasting {
		flags |= flagLasting
	}
	if c.Made {
		flags |= flagMade
	}
	if c.Guessed {
		flags |= flagGuessed
	}
	if len(c.SessionID) > 0 {
		flags |= flagSessionID
	}
	b = append(b, flags)
	for _, t := range times[:n] {
		switch {
		case flags&flagPrecise == 0:
			b = binary.LittleEndian.AppendUint32(b, uint32(t.Unix())) //nolint:gosec // it fits
		case t.IsZero():
			b = binary.LittleEndian.AppendUint64(b, 1<<63) // noTime
		default:
			b = binary.LittleEndian.AppendUint64(b, uint64(t.UnixMicro()))
		}
	}
	b = appendText(b, c.Subject)
	if flags&flagSessionID != 0 {
		b = appendText(b, c.SessionID)
	}
	for _, text := range c.Match {
		b = appendText(b, text)
	}
	return b
}

func appendText(b, text []byte) []byte {
	if text == nil {
		return binary.AppendUvarint(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(text))+1), text...)
}

// decode decodes c.encoded. Subject, SessionID and Match become slices of it.
func (c *Claims) decode() {
	flags, b := c.encoded[0], c.encoded[1:]
	c.MintedAt, b = cutTime(b, flags, flagMintedAt)
	c.ExpiresAt, b = cutTime(b, flags, flagExpiresAt)
	c.IssuedAt, b = cutTime(b, flags, flagIssuedAt)
	if flags&flagIssuedAt == 0 {
		c.IssuedAt = c.MintedAt
	}
	c.Lasting, c.Made, c.Guessed = flags&flagLasting != 0, flags&flagMade != 0, flags&flagGuessed != 0
	c.Subject, b = cutText(b)
	if c.SessionID = nil; flags&flagSessionID != 0 {
		c.SessionID, b = cutText(b)
	}
	c.Match = c.match[:0]
	for len(b) > 0 {
		var text []byte
		text, b = cutText(b)
		c.Match = append(c.Match, text)
	}
}

// cutTime decodes the time at the beginning of b, if the flag is set.
func cutTime(b []byte, flags, flag byte) (t time.Time, rest []byte) {
	switch {
	case flags&flag == 0:
		return time.Time{}, b
	case flags&flagPrecise == 0:
		return time.Unix(int64(binary.LittleEndian.Uint32(b)), 0), b[4:]
	}
	if micros := int64(binary.LittleEndian.Uint64(b)); micros != noTime { //nolint:gosec // as it was written
		t = time.UnixMicro(micros)
	}
	return t, b[8:]
}

func cutText(b []byte) (text, rest []byte) {
	length, n := binary.Uvarint(b)
	b = b[n:]
	if length == 0 {
		return nil, b
	}
	return b[: length-1 : length-1], b[length-1:]
}
