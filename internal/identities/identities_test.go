package identities

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// people are users whom one provider calls by other names.
type people struct{}

func (people) ByAccount(_ context.Context, providers []string, sub string) ([]string, error) {
	if slices.Contains(providers, "keycloak") && sub == "s1" {
		return []string{"ada"}, nil
	}
	return nil, nil
}

func (people) ByEmail(_ context.Context, email string) ([]string, error) {
	return []string{"by " + email}, nil
}

func TestAnIssuerSpeaksOnlyForWhatItIsAllowedTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		accounts Accounts
		users    Users
		sub      string
		want     []string
		err      error
	}{
		"nothing is configured":     {Accounts{}, people{}, "s1", nil, ErrNotAllowed},
		"its provider":              {Accounts{Provider: []string{"keycloak"}}, people{}, "s1", []string{"ada"}, nil},
		"its provider, nobody":      {Accounts{Provider: []string{"keycloak"}}, people{}, "ada", nil, nil},
		"another provider":          {Accounts{Provider: []string{"google"}}, people{}, "s1", nil, nil},
		"users that are elsewhere":  {Accounts{Provider: []string{"keycloak"}}, nil, "s1", nil, ErrUnsupported},
		"the subject of sessions":   {Accounts{SubIsUserID: true}, people{}, "s1", []string{"s1"}, nil},
		"the same, users elsewhere": {Accounts{SubIsUserID: true}, nil, "s1", []string{"s1"}, nil},
	} {
		found, err := c.accounts.Find(t.Context(), c.users, c.sub)
		if !slices.Equal(found, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: found %q, error %v", name, found, err)
		}
	}
	for email, allowed := range map[string]bool{
		"ada@example.com": true, "ada@EXAMPLE.com": true, `"a@b"@example.com`: true,
		"ada@example.org": false, "ada@sub.example.com": false, "ada@example.com@evil.example": false, "ada@example.com.": false, "@example.com": false, "example.com": false, "": false,
	} {
		found, err := Domains{"example.com"}.Find(t.Context(), people{}, email)
		if allowed && (err != nil || !slices.Equal(found, []string{"by " + email})) || !allowed && (!errors.Is(err, ErrNotAllowed) || len(found) > 0) {
			t.Errorf("%s: found %q, error %v", email, found, err)
		}
	}
	if _, err := (Domains{"example.com"}).Find(t.Context(), nil, "ada@example.com"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("users that are elsewhere: error %v", err)
	}
	if _, err := (Domains{}).Find(t.Context(), people{}, "ada@example.com"); err == nil || !strings.Contains(err.Error(), "add it to `email_domains`") {
		t.Errorf("no domain: error %v", err)
	}
}
