package session

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// clockTolerance is the same as in next-auth 4.24 and @auth/core 0.41.
const clockTolerance = 15 * time.Second

// claims checks the registered claims of a payload (RFC 7519, section 4.1) as
// jose 4.15 and 6.2 do, and returns the claims that a verdict needs.
func (rd *Reader) claims(payload map[string]any) (Claims, Failure) {
	exp, hasExp, ok := numericDate(payload, "exp")
	nbf, hasNbf, ok2 := numericDate(payload, "nbf")
	iat, hasIat, ok3 := numericDate(payload, "iat")
	if !ok || !ok2 || !ok3 {
		return Claims{}, Undecodable
	}
	now := rd.config.Now()
	switch {
	case hasNbf && nbf > unixSeconds(now.Add(clockTolerance)):
		return Claims{}, Undecodable
	case rd.config.Issuer != "" && payload["iss"] != rd.config.Issuer:
		return Claims{}, Undecodable
	case rd.config.Audience != "" && !inAudience(payload["aud"], rd.config.Audience):
		return Claims{}, Undecodable
	case hasExp && exp <= unixSeconds(now.Add(-clockTolerance)):
		return Claims{ExpiresAt: timeOf(exp)}, Expired
	}
	c := Claims{}
	if hasExp {
		c.ExpiresAt = timeOf(exp)
	}
	if hasIat {
		c.MintedAt = timeOf(iat)
		c.IssuedAt = c.MintedAt
	}
	if rd.config.IssuedAt != DefaultIssuedAt {
		if at, ok := parseTime(find(payload, rd.config.IssuedAt)); ok {
			c.IssuedAt, c.Lasting = at, true
		}
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

// numericDate returns a NumericDate claim. It is not ok if the claim is present
// but not a number.
func numericDate(payload map[string]any, name string) (value float64, present, ok bool) {
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

// unixSeconds returns the seconds since 1970, with fractions.
func unixSeconds(t time.Time) float64 {
	return float64(t.UnixMilli()) / 1000
}

// timeOf returns the time of seconds since 1970, clamped to the years 1 to 9999.
func timeOf(seconds float64) time.Time {
	const most = 253402300799 // the end of 9999
	seconds = min(max(seconds, -62135596800), most)
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9))
}

// parseTime parses a time that an app put into a claim: seconds or milliseconds
// since 1970, or RFC 3339.
func parseTime(claim any) (time.Time, bool) {
	switch v := claim.(type) {
	case json.Number:
		seconds, err := v.Float64()
		if err != nil {
			return time.Time{}, false
		}
		if seconds > 1e11 { // the year 5138, or 1973 in milliseconds
			seconds /= 1000
		}
		return timeOf(seconds), true
	case string:
		at, err := time.Parse(time.RFC3339, v)
		return at, err == nil
	}
	return time.Time{}, false
}

// inAudience reports whether an aud claim is or contains an audience.
func inAudience(claim any, audience string) bool {
	if list, ok := claim.([]any); ok {
		return slices.Contains(list, any(audience))
	}
	return claim == audience
}

// identifier returns a claim as a user id: a string, or the digits of an
// integer. It is empty for anything else.
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

// text returns a claim as text, for the comparison with a column. It is not ok
// if the claim is absent, null, an object or an array.
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

// find returns the claim at a path such as user.id. A claim whose name contains
// the dots takes precedence over a nested one.
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
