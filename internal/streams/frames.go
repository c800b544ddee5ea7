package streams

import "encoding/binary"

// opClose is the opcode of a close frame (RFC 6455, section 5.5.1).
const opClose = 8

// frames follows the frames of a WebSocket in one direction (RFC 6455, section 5.2).
// It looks at their headers alone.
type frames struct {
	header [14]byte
	have   int    // bytes of the header
	left   uint64 // bytes of the payload that follow
	closed bool   // a close frame has passed
}

// between reports whether a frame has ended, and none begun.
func (f *frames) between() bool { return f.have == 0 }

// next follows what is sent up to the end of a frame, and returns how much that is.
func (f *frames) next(p []byte) (n int) {
	for n < len(p) {
		if f.have < f.size() {
			f.header[f.have] = p[n]
			f.have, n = f.have+1, n+1
			if f.have < f.size() {
				continue
			}
			f.left = f.payload()
		}
		skip := min(f.left, uint64(len(p)-n)) //nolint:gosec // not negative
		f.left -= skip
		n += int(skip) //nolint:gosec // at most len(p)
		if f.left == 0 {
			f.closed = f.closed || f.header[0]&0x0f == opClose
			f.have = 0
			return n
		}
	}
	return n
}

// follow follows all that is sent.
func (f *frames) follow(p []byte) {
	for len(p) > 0 {
		p = p[f.next(p):]
	}
}

// size returns the size of the header, as far as it is known.
func (f *frames) size() int {
	size := 2
	if f.have < size {
		return size
	}
	switch f.header[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.header[1]&0x80 != 0 { // the mask
		size += 4
	}
	return size
}

// payload returns the length of the payload, of a complete header.
func (f *frames) payload() uint64 {
	switch length := f.header[1] & 0x7f; length {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.header[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.header[2:])
	default:
		return uint64(length)
	}
}

// closeFrame returns a close frame of a server.
func closeFrame(code uint16, reason string) []byte {
	frame := []byte{0x80 | opClose, byte(2 + len(reason))} //nolint:gosec // short
	return append(binary.BigEndian.AppendUint16(frame, code), reason...)
}
