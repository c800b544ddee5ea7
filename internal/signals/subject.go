package signals

import (
	"errors"
	"strings"

	"github.com/seed-4adef13c/caddy-stale-session/internal/revocation"
)

// format is that of a subject identifier (RFC 9493, section 3.2, and OpenID Shared
// Signals Framework 1.0, section 3.5). Any other is not supported.
type format string

const (
	formatAccount format = "iss_sub"
	formatEmail   format = "email"
	formatOpaque  format = "opaque"
	formatAliases format = "aliases"
	formatComplex format = "complex"
)

// simple is a subject identifier that names one thing.
type simple struct {
	format format
	issuer string // of an account
	value  string // the sub, the address or the id
}

// identifier parses a simple subject identifier. One of a format that is not supported
// has no value.
func identifier(object map[string]any) (simple, error) {
	id := simple{format: format(text(object, "format"))}
	switch id.format {
	case formatAccount:
		id.issuer, id.value = text(object, "iss"), text(object, "sub")
		if id.issuer == "" {
			return id, errors.New("the subject has no iss")
		}
	case formatEmail:
		id.value = text(object, "email")
	case formatOpaque:
		id.value = text(object, "id")
	case "":
		return id, errors.New("the subject has no format")
	default:
		return id, nil
	}
	if id.value == "" || len(id.value) > revocation.MaxID || strings.ContainsRune(id.value, 0) {
		return id, errors.New("the subject has no value, or one that is too long or has a NUL byte")
	}
	return id, nil
}

// maxAliases bounds how many identifiers a subject may have.
const maxAliases = 16

// subject is what an event is about.
type subject struct {
	users     []simple // one user, by any of these
	session   string   // the ID of one of the user's sessions at the issuer; empty for all
	narrow    bool     // it is about less than these, such as a device
	elsewhere bool     // it is about another application
}

// subject parses the subject of an event.
func (e *receiver) subject(object map[string]any) (s subject, err error) {
	if e.tolerance.oldFormats {
		object = withFormat(object)
	}
	if format(text(object, "format")) == formatComplex {
		err = e.complex(&s, object)
	} else {
		err = e.user(&s, object)
	}
	if len(s.users) > maxAliases {
		return s, errors.New("the subject has too many aliases")
	}
	return s, err
}

// user adds the identifiers of a user.
func (e *receiver) user(s *subject, object map[string]any) error {
	if e.tolerance.oldFormats {
		object = withFormat(object)
	}
	if format(text(object, "format")) == formatAliases {
		all, _ := object["identifiers"].([]any)
		for _, one := range all {
			id, ok := one.(map[string]any)
			if !ok || format(text(id, "format")) == formatAliases { // RFC 9493, section 3.2.8
				return errors.New("the subject has an alias that is no identifier")
			}
			if err := e.user(s, id); err != nil {
				return err
			}
		}
		return nil
	}
	id, err := identifier(object)
	if err == nil && id.value != "" {
		s.users = append(s.users, id)
	}
	return err
}

// complex parses a complex subject, whose members describe one thing together: each of
// them narrows it.
func (e *receiver) complex(s *subject, object map[string]any) error {
	for name, member := range object {
		id, isObject := member.(map[string]any)
		switch name {
		case "user", "session", "application", "device", "org_unit", "group":
			if !isObject {
				return errors.New("the member " + name + " of the subject is no object")
			}
		default: // format; tenant, which a user has anyway; members that are not known
			continue
		}
		var err error
		switch name {
		case "user":
			err = e.user(s, id)
		case "session":
			s.session = text(id, "id")
			switch {
			case e.tolerance.allSessions && s.session == "ALL":
				s.session = ""
			case format(text(id, "format")) != formatOpaque && !e.tolerance.oldFormats, s.session == "", len(s.session) > revocation.MaxID, strings.ContainsRune(s.session, 0):
				s.session, s.narrow = "", true
			}
		case "application":
			s.elsewhere = !contains(text(id, "id"), e.tokens.audience)
		default:
			s.narrow = true
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// withFormat gives an identifier of before RFC 9493 a format: from its subject_type,
// which has hyphens, or from its members.
func withFormat(object map[string]any) map[string]any {
	if _, has := object["format"]; has {
		return object
	}
	copied := make(map[string]any, len(object)+1)
	for name, value := range object {
		copied[name] = value
	}
	has := func(name string) bool { _, found := object[name]; return found }
	name := strings.ReplaceAll(text(object, "subject_type"), "-", "_")
	switch {
	case name == "id_token_claims" || name == "" && has("sub"):
		name = string(formatAccount)
	case name != "":
	case has("user") || has("session"):
		name = string(formatComplex)
	case has("email"):
		name = string(formatEmail)
	case has("id"):
		name = string(formatOpaque)
	}
	copied["format"] = name
	return copied
}
