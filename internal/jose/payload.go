package jose

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// maxDepth bounds the nesting of JSON.
const maxDepth = 16

// ParsePayload parses a payload, which must be a single JSON object, nested 16 deep
// at most. Numbers become json.Number. The error is ErrInvalid.
func ParsePayload(payload []byte) (map[string]any, error) {
	if tooDeep(payload) {
		return nil, ErrInvalid
	}
	in := json.NewDecoder(bytes.NewReader(payload))
	in.UseNumber()
	var claims map[string]any
	if err := in.Decode(&claims); err != nil || claims == nil {
		return nil, ErrInvalid
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, ErrInvalid
	}
	return claims, nil
}

// tooDeep reports whether a JSON text is nested deeper than maxDepth.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}
