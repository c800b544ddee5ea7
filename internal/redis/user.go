package redis

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/formats"
)

// user is the value of a key.
type user struct {
	exists bool
	// fields are those of the hash or JSON object; nil if the value is neither.
	fields map[string]any
}

// parseUser parses the answer to HGETALL or GET.
func parseUser(result rueidis.RedisResult, hash bool) (user, error) {
	if hash {
		texts, err := result.AsStrMap()
		if err != nil || len(texts) == 0 {
			return user{}, err
		}
		u := user{exists: true, fields: make(map[string]any, len(texts))}
		for name, text := range texts {
			u.fields[name] = text
		}
		return u, nil
	}
	text, err := result.AsBytes()
	if rueidis.IsRedisNil(err) {
		return user{}, nil
	}
	if err != nil {
		return user{}, err
	}
	u := user{exists: true}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&u.fields) != nil {
		u.fields = nil
	}
	return u, nil
}

// account converts a user to an account, as configured.
func (d *Directory) account(u user, subject string, now time.Time) directories.Account {
	c := &d.config
	if !u.exists || c.Key == DefaultKey && isOtherKey(subject) {
		return directories.Account{}
	}
	if u.fields == nil {
		if c.Key == DefaultKey || len(c.Disabled)+len(c.Match) > 0 || c.CreatedAt+c.ValidAfter != "" {
			return directories.Account{Failure: &directories.Error{Class: directories.Schema, Text: "a user in Redis is neither a hash nor a JSON object, so it has no fields"}}
		}
		return directories.Account{Exists: true}
	}
	if id, ok := text(u.fields["id"]); ok && id != subject { // not a user
		return directories.Account{}
	}
	a := directories.Account{Exists: true}
	for _, time := range []struct {
		field string
		into  *time.Time
	}{{c.CreatedAt, &a.CreatedAt}, {c.ValidAfter, &a.ValidAfter}} {
		value, ok := text(formats.Find(u.fields, time.field))
		if time.field == "" || !ok || value == "" {
			continue
		}
		if *time.into, ok = parseTime(value); !ok {
			return directories.Account{Failure: unreadable(time.field, "a time")}
		}
	}
	for _, field := range c.Disabled {
		value, _ := text(formats.Find(u.fields, field))
		disabled, ok := parseDisabled(value, now)
		if !ok {
			return directories.Account{Failure: unreadable(field, "a boolean, an integer or a time")}
		}
		a.Disabled = a.Disabled || disabled
	}
	for _, field := range c.Match {
		var value []byte
		if text, ok := text(formats.Find(u.fields, field)); ok {
			value = append([]byte{}, text...) // not nil, even if empty
		}
		a.Matched = append(a.Matched, value)
	}
	return a
}

// isOtherKey reports whether the Upstash adapter writes something other than a user
// to the DefaultKey of a subject.
func isOtherKey(subject string) bool {
	return slices.ContainsFunc([]string{"account:", "email:", "session:", "token:"}, func(prefix string) bool { return strings.HasPrefix(subject, prefix) })
}

func unreadable(field, want string) error {
	return &directories.Error{Class: directories.Schema, Text: "the field " + strconv.Quote(field) + " of a user in Redis is not " + want}
}

// text returns a field as text. It reports false if the field is missing, null, an
// object or an array.
func text(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// parseTime parses a time: RFC 3339, or seconds or milliseconds since 1970.
func parseTime(text string) (time.Time, bool) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, true
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds >= 0 && seconds < 1e15) {
		return time.Time{}, false
	}
	if seconds > 1e11 { // as seconds, the year 5138; as milliseconds, 1973
		seconds /= 1000
	}
	return time.UnixMicro(int64(seconds * 1e6)), true
}

// parseDisabled reports whether the value of a field disables a user.
func parseDisabled(text string, now time.Time) (disabled, ok bool) {
	switch strings.ToLower(text) {
	case "", "false", "null", "no", "f":
		return false, true
	case "true", "yes", "t":
		return true, true
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n != 0, true
	}
	at, err := time.Parse(time.RFC3339, text)
	return err == nil && !at.After(now), err == nil
}
