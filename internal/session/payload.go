package session

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// clockTolerance is that of next-auth 4.24 and @auth/core 0.41.
const clockTolerance = 15 * time.Second

// claims checks the registered claims of a payload as jose 4.15 and 6.2 do
// (RFC 7519, section 4.1), and takes from it what the verdict needs.
func (rd *Reader) claims(payload map[string]any) (Claims, Failure) {
	exp, hasExp, ok := seconds(payload, "exp")
	nbf, hasNbf, ok2 := seconds(payload, "nbf")
	iat, hasIat, ok3 := seconds(payload, "iat")
	if !ok || !ok2 || !ok3 {
		return Claims{}, Undecodable
	}
	now := rd.config.Now()
	switch {
	case hasNbf && nbf > unix(now.Add(clockTolerance)):
		return Claims{}, Undecodable
	case rd.config.Issuer != "" && payload["iss"] != rd.config.Issuer:
		return Claims{}, Undecodable
	case rd.config.Audience != "" && !inAudience(payload["aud"], rd.config.Audience):
		return Claims{}, Undecodable
	case hasExp && exp <= unix(now.Add(-clockTolerance)):
		return Claims{}, Expired
	}
	c := Claims{}
	if hasExp {
		c.ExpiresAt = instant(exp)
	}
	if hasIat {
		c.MintedAt = instant(iat)
		c.IssuedAt = c.MintedAt
	}
	if at, ok := moment(find(payload, rd.config.IssuedAt)); ok {
		c.IssuedAt = at
	}
	c.Subject = []byte(identifier(find(payload, rd.config.Subject)))
	for _, path := range rd.config.Match {
		var value []byte
		if claim, ok := text(find(payload, path)); ok {
			value = append([]byte{}, claim...) // not nil, even when it is empty
		}
		c.Match = append(c.Match, value)
	}
	return c, ""
}

// seconds returns a NumericDate claim. It is not ok when there is one that is
// no number.
func seconds(payload map[string]any, name string) (value float64, present, ok bool) {
	claim, present := payload[name]
	if !present {
		return 0, false, true
	}
	number, isNumber := claim.(json.Number)
	if !isNumber {
		return 0, true, false
	}
	value, err := number.Float64()
	return value, true, err == nil
}

// unix is the time as seconds since 1970, with fractions.
func unix(t time.Time) float64 {
	return float64(t.UnixMilli()) / 1000
}

// instant is the time of seconds since 1970, within the years 1 to 9999.
func instant(seconds float64) time.Time {
	const most = 253402300799 // the end of 9999
	seconds = min(max(seconds, -62135596800), most)
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9))
}

// moment reads a time that an app put into a claim: seconds or milliseconds
// since 1970, or RFC 3339.
func moment(claim any) (time.Time, bool) {
	switch v := claim.(type) {
	case json.Number:
		seconds, err := v.Float64()
		if err != nil {
			return time.Time{}, false
		}
		if seconds > 1e11 { // the year 5138, or 1973 in milliseconds
			seconds /= 1000
		}
		return instant(seconds), true
	case string:
		at, err := time.Parse(time.RFC3339, v)
		return at, err == nil
	}
	return time.Time{}, false
}

// inAudience tells whether an aud claim is or contains an audience.
func inAudience(claim any, audience string) bool {
	if list, ok := claim.([]any); ok {
		return slices.Contains(list, any(audience))
	}
	return claim == audience
}

// identifier is a claim as a user id: a string as it is, an integer by its
// digits, empty for anything else.
func identifier(claim any) string {
	switch v := claim.(type) {
	case string:
		return v
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			return v.String()
		}
	}
	return ""
}

// text is a claim as text to be matched with a column. It is not ok for a
// claim that is absent, null, an object or an array.
func text(claim any) (string, bool) {
	switch v := claim.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	}
	return "", false
}

// find returns the claim at a path such as user.id. A claim whose own name has
// dots goes before one that is nested.
func find(object map[string]any, path string) any {
	if claim, ok := object[path]; ok {
		return claim
	}
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		if inner, ok := object[path[:i]].(map[string]any); ok {
			if claim := find(inner, path[i+1:]); claim != nil {
				return claim
			}
		}
	}
	return nil
}
