package session

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/formats"
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
		return Claims{ExpiresAt: formats.Seconds(exp)}, Expired
	}
	c := Claims{}
	if hasExp {
		c.ExpiresAt = formats.Seconds(exp)
	}
	if hasIat {
		c.MintedAt = formats.Seconds(iat)
		c.IssuedAt = c.MintedAt
	}
	if rd.config.IssuedAt != DefaultIssuedAt {
		if at, ok := formats.Time(formats.Find(payload, rd.config.IssuedAt)); ok {
			c.IssuedAt, c.Lasting = at, true
		}
	}
	c.Subject = []byte(formats.Subject(payload, rd.config.Subject))
	c.Match = rd.matched(payload)
	return c, ""
}

// matched returns the claims that Config.Match names.
func (rd *Reader) matched(claims map[string]any) (values [][]byte) {
	for _, path := range rd.config.Match {
		var value []byte
		if claim, ok := text(formats.Find(claims, path)); ok {
			value = append([]byte{}, claim...) // not nil, even when it is empty
		}
		values = append(values, value)
	}
	return values
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

// inAudience reports whether an aud claim is or contains an audience.
func inAudience(claim any, audience string) bool {
	if list, ok := claim.([]any); ok {
		return slices.Contains(list, any(audience))
	}
	return claim == audience
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
