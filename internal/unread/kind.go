// Package unread notices what looks like a session and is read by nothing, so that a
// library that the module is not configured for does not go unnoticed.
package unread

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
)

// Kind is what a value looks like.
type Kind string

// The kinds.
const (
	// None: not like a session.
	None Kind = ""
	// JWT is a signed JSON Web Token.
	JWT Kind = "jwt"
	// JWE is an encrypted JSON Web Token.
	JWE Kind = "jwe"
	// Seal is a Fe26.2 seal.
	Seal Kind = "seal"
	// Supabase is what @supabase/ssr writes.
	Supabase Kind = "supabase"
	// SignedJSON is JSON with a signature behind it, as Remix writes it.
	SignedJSON Kind = "signed_json"
	// SignedID is an id with a signature behind it, as express-session and Better Auth
	// write it.
	SignedID Kind = "signed_id"
)

// Kinds are all of them but None.
var Kinds = []Kind{JWT, JWE, Seal, Supabase, SignedJSON, SignedID}

// The shortest value that can be a session, and how much of a long one is looked at.
const (
	shortest  = 40
	maxHeader = 1 << 10
)

// KindOf returns what the value of a cookie or of a Bearer token looks like. It neither
// verifies nor keeps it.
func KindOf(value string) Kind { return confirm(value, shape(value)) }

// shape returns what a value may be, at next to no cost.
func shape(value string) Kind {
	if len(value) < shortest {
		return None
	}
	switch {
	case strings.HasPrefix(value, "Fe26.2*"):
		return Seal
	case strings.HasPrefix(value, "base64-eyJ"):
		return Supabase
	case strings.HasPrefix(value, "s%3A"), strings.HasPrefix(value, "s:"):
		return SignedID
	}
	switch strings.Count(value, ".") {
	case 1:
		if strings.HasPrefix(value, "ey") { // of {"
			return SignedJSON
		}
		return SignedID
	case 2:
		return JWT
	case 3, 4: // 3 in the first of several chunks
		return JWE
	}
	return None
}

// confirm returns the kind of a value, given its shape.
func confirm(value string, kind Kind) Kind {
	is := true
	switch kind {
	case JWT, JWE:
		is = hasHeader(value)
	case SignedJSON, SignedID:
		is = hasSignature(value)
	}
	if !is {
		return None
	}
	return kind
}

// hasHeader reports whether a text begins with the header of a token.
func hasHeader(value string) bool {
	segment, _, _ := strings.Cut(value, ".")
	if !strings.HasPrefix(segment, "ey") || len(segment) > maxHeader {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(segment)
	var header struct {
		Alg string `json:"alg"`
	}
	return err == nil && json.Unmarshal(text, &header) == nil && header.Alg != ""
}

// hasSignature reports whether an HMAC-SHA256 in base64 stands behind the last dot.
func hasSignature(value string) bool {
	at := strings.LastIndexByte(value, '.')
	if at < 0 || len(value)-at > 3*44 || len(value)-at < 43 {
		return false
	}
	signature, err := url.PathUnescape(value[at+1:])
	if err != nil {
		return false
	}
	sum, err := base64.RawStdEncoding.DecodeString(strings.TrimSuffix(signature, "="))
	return err == nil && len(sum) == sha256.Size
}
