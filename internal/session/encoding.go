package session

import (
	"encoding/binary"
	"math"
	"time"
)

// noTime stands for the zero time.
const noTime = math.MinInt64

// encode writes claims without a pointer in them: three times in microseconds
// since 1970, then the subject and the matched claims, each after its length
// plus one. A length of 0 is a claim that is not there.
func (c *Claims) encode() []byte {
	b := make([]byte, 0, 64)
	for _, t := range [...]time.Time{c.IssuedAt, c.MintedAt, c.ExpiresAt} {
		micros := int64(noTime)
		if !t.IsZero() {
			micros = t.UnixMicro()
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(micros)) //nolint:gosec // read back as it was
	}
	b = appendText(b, c.Subject)
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

// decode reads c.encoded back, of which the texts become parts.
func (c *Claims) decode() {
	b := c.encoded
	for _, t := range [...]*time.Time{&c.IssuedAt, &c.MintedAt, &c.ExpiresAt} {
		*t = time.Time{}
		if micros := int64(binary.LittleEndian.Uint64(b)); micros != noTime { //nolint:gosec // as it was written
			*t = time.UnixMicro(micros)
		}
		b = b[8:]
	}
	c.Subject, b = cutText(b)
	c.Match = c.match[:0]
	for len(b) > 0 {
		var text []byte
		text, b = cutText(b)
		c.Match = append(c.Match, text)
	}
}

func cutText(b []byte) (text, rest []byte) {
	length, n := binary.Uvarint(b)
	b = b[n:]
	if length == 0 {
		return nil, b
	}
	return b[: length-1 : length-1], b[length-1:]
}
