package streams

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// frame returns a frame with a payload of zeros, in the shortest form.
func frame(opcode byte, length int, masked bool) []byte {
	mask, key := byte(0), []byte(nil)
	if masked {
		mask, key = 0x80, []byte{1, 2, 3, 4}
	}
	head := []byte{0x80 | opcode}
	switch {
	case length < 126:
		head = append(head, mask|byte(length))
	case length < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, mask|126), uint16(length))
	default:
		head = binary.BigEndian.AppendUint64(append(head, mask|127), uint64(length))
	}
	return append(append(head, key...), make([]byte, length)...)
}

func TestFramesAreFollowedHoweverTheyAreCut(t *testing.T) {
	t.Parallel()
	lengths := []int{0, 1, 125, 126, 127, 1<<16 - 1, 1 << 16, 70_000}
	for _, masked := range []bool{false, true} {
		var all []byte
		ends := map[int]bool{0: true}
		for _, length := range lengths {
			all = append(all, frame(1, length, masked)...)
			ends[len(all)] = true
		}
		for _, piece := range []int{1, 2, 3, 7, 4096, len(all)} {
			var f frames
			for at := 0; at < len(all); {
				rest := all[at:min(at+piece, len(all))]
				n := f.next(rest)
				if n == 0 {
					t.Fatal("nothing was followed")
				}
				if at += n; f.between() != ends[at] {
					t.Fatalf("masked %t, in pieces of %d: between frames at %d: %t", masked, piece, at, f.between())
				}
			}
			if f.closed {
				t.Error("closed")
			}
		}
	}
}

func TestACloseFrameIsSeen(t *testing.T) {
	t.Parallel()
	var f frames
	if f.follow(append(frame(9, 5, false), frame(opClose, 2, false)[:3]...)); f.closed {
		t.Error("before it is complete")
	}
	if f.follow([]byte{0}); !f.closed || !f.between() {
		t.Error("it is not seen")
	}
	f = frames{}
	if f.follow(closeFrame(policyViolation, closeReason)); !f.closed || !f.between() {
		t.Error("ours is none")
	}
}

// FuzzFrames follows anything, in two ways that must agree.
func FuzzFrames(f *testing.F) {
	f.Add(frame(1, 300, true), uint8(3))
	f.Add([]byte{0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, sent []byte, size uint8) {
		var whole, pieces frames
		whole.follow(sent)
		for piece := range chunks(sent, int(size)+1) {
			pieces.follow(piece)
		}
		if whole != pieces {
			t.Errorf("%+v, in pieces %+v", whole, pieces)
		}
	})
}

func chunks(all []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for r := bytes.NewBuffer(all); r.Len() > 0; {
			if !yield(r.Next(size)) {
				return
			}
		}
	}
}
