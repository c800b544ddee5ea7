package session

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

// maxHeader is how long a JOSE header can be, in base64url.
const maxHeader = 1366 // 1 KiB decoded

var errHeader = errors.New("the token's header is not of the configured kind")

// joseHeader is the header of a token: strings by name.
type joseHeader map[string]string

// readHeader reads the header of a token. It has to be a flat JSON object of
// strings, without doubles, whose names are all among those allowed. So crit,
// zip, embedded keys and key URLs are refused unread.
func readHeader(segment string, allowed ...string) (joseHeader, error) {
	return readHeaderOf("at+jwt", segment, allowed...)
}

// readHeaderOf is readHeader for tokens whose typ, where they have one, may be
// a certain one besides JWT.
func readHeaderOf(typ, segment string, allowed ...string) (joseHeader, error) {
	if len(segment) > maxHeader {
		return nil, errHeader
	}
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return nil, errHeader
	}
	in := json.NewDecoder(bytes.NewReader(text))
	if token, err := in.Token(); err != nil || token != json.Delim('{') {
		return nil, errHeader
	}
	header := make(joseHeader)
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return nil, errHeader
		}
		value, err := in.Token()
		if err != nil {
			return nil, errHeader
		}
		key, _ := name.(string)
		text, isText := value.(string)
		if _, doubled := header[key]; doubled || !isText || !slices.Contains(allowed, key) {
			return nil, errHeader
		}
		header[key] = text
	}
	if token, err := in.Token(); err != nil || token != json.Delim('}') {
		return nil, errHeader
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, errHeader
	}
	for _, name := range []string{"typ", "cty"} {
		if kind, ok := header[name]; ok && !strings.EqualFold(kind, "JWT") && (name == "cty" || !strings.EqualFold(kind, typ)) {
			return nil, errHeader
		}
	}
	return header, nil
}
