package formats

import (
	"encoding/json"
	"math"
	"strings"
	"time"
)

// Find returns the claim at a path such as user.id; nil if there is none. A claim
// whose name contains the dots takes precedence over a nested one.
func Find(claims map[string]any, path string) any {
	if claim, ok := claims[path]; ok {
		return claim
	}
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		if inner, ok := claims[path[:i]].(map[string]any); ok {
			if claim := Find(inner, path[i+1:]); claim != nil {
				return claim
			}
		}
	}
	return nil
}

// Subject returns the user id at the first of some paths that has one: a string, or
// the digits of an integer. It is empty if there is none.
func Subject(claims map[string]any, paths ...string) string {
	for _, path := range paths {
		switch v := Find(claims, path).(type) {
		case string:
			if v != "" {
				return v
			}
		case json.Number:
			if !strings.ContainsAny(v.String(), ".eE") {
				return v.String()
			}
		}
	}
	return ""
}

// Time returns the time in a claim: seconds or milliseconds since 1970, or RFC 3339.
func Time(claim any) (at time.Time, ok bool) {
	switch v := claim.(type) {
	case json.Number:
		seconds, err := v.Float64()
		if err != nil {
			return time.Time{}, false
		}
		if seconds > 1e11 { // the year 5138, or 1973 in milliseconds
			seconds /= 1000
		}
		return Seconds(seconds), true
	case string:
		at, err := time.Parse(time.RFC3339, v)
		return at, err == nil
	}
	return time.Time{}, false
}

// Seconds returns the time of seconds since 1970, clamped to the years 1 to 9999.
func Seconds(seconds float64) time.Time {
	const most = 253402300799 // the end of 9999
	seconds = min(max(seconds, -62135596800), most)
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9))
}
