package jose

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

// maxHeaderBytes bounds a header in base64url: 1 KiB decoded.
const maxHeaderBytes = 1366

// typeAccess is a typ that tokens may have besides JWT (RFC 9068).
const typeAccess = "at+jwt"

// Header is the header of a token: its fields by name.
type Header map[string]string

// IsType reports whether a typ names a type, with or without "application/" (RFC 7515,
// section 4.1.9).
func IsType(typ, name string) bool {
	const media = "application/"
	if len(typ) > len(media) && strings.EqualFold(typ[:len(media)], media) {
		typ = typ[len(media):]
	}
	return strings.EqualFold(typ, name)
}

// parseHeader parses the first segment of a token. The header must be a flat
// JSON object of strings, without duplicates, and have no fields but those
// allowed, so crit, zip, embedded keys and key URLs are refused. Its typ, if
// any, must be JWT or the one given.
func parseHeader(segment, typ string, allowed []string) (Header, error) {
	if len(segment) > maxHeaderBytes {
		return nil, ErrInvalid
	}
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return nil, ErrInvalid
	}
	in := json.NewDecoder(bytes.NewReader(text))
	if token, err := in.Token(); err != nil || token != json.Delim('{') {
		return nil, ErrInvalid
	}
	header := make(Header)
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return nil, ErrInvalid
		}
		value, err := in.Token()
		if err != nil {
			return nil, ErrInvalid
		}
		key, _ := name.(string)
		text, isText := value.(string)
		if _, duplicate := header[key]; duplicate || !isText || !slices.Contains(allowed, key) {
			return nil, ErrInvalid
		}
		header[key] = text
	}
	if token, err := in.Token(); err != nil || token != json.Delim('}') {
		return nil, ErrInvalid
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, ErrInvalid
	}
	if kind, ok := header["typ"]; ok && !strings.EqualFold(kind, "JWT") && !IsType(kind, typ) {
		return nil, ErrInvalid
	}
	if kind, ok := header["cty"]; ok && !strings.EqualFold(kind, "JWT") {
		return nil, ErrInvalid
	}
	return header, nil
}
