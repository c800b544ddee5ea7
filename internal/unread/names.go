package unread

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Limits on what is kept: anybody can send any name.
const (
	maxNames = 32
	maxName  = 64
	maxWord  = 24 // of a name; the project of Supabase has 20 characters
)

// Found is what looks like a session and is read by nothing.
type Found struct {
	// Name is the name of the cookie, or Authorization for a Bearer token.
	Name string `json:"name"`
	// Kind is what it looks like.
	Kind Kind `json:"kind"`
	// Advice is what to configure.
	Advice string `json:"advice"`
}

// Bearer is the Name of what is found in the header Authorization.
const Bearer = "Authorization"

// Names are the names under which something was found. The zero Names is empty. It is
// safe for concurrent use.
type Names struct {
	mu    sync.Mutex
	found atomic.Pointer[map[string]Found]
}

// Notice notices a cookie or a Bearer token that nothing reads. It reports whether it
// looks like a session, and no other with its name did before.
func (n *Names) Notice(name, value string) (Found, bool) {
	kind := shape(value)
	if kind == None || n.knows(name) || len(name) > maxName || !isPlain(name) || isNone(name) {
		return Found{}, false
	}
	if kind = confirm(value, kind); kind == None {
		return Found{}, false
	}
	found := Found{Name: name, Kind: kind, Advice: Advice(name, kind)}
	return found, n.add(found)
}

// knows reports whether a name is known, or no other can be added.
func (n *Names) knows(name string) bool {
	all := n.found.Load()
	if all == nil {
		return false
	}
	_, known := (*all)[name]
	return known || len(*all) >= maxNames && !isUsual(name)
}

func (n *Names) add(found Found) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.knows(found.Name) {
		return false
	}
	all := make(map[string]Found)
	if before := n.found.Load(); before != nil {
		all = maps.Clone(*before)
	}
	all[found.Name] = found
	n.found.Store(&all)
	return true
}

// All returns what was found, by name.
func (n *Names) All() []Found {
	all := n.found.Load()
	if all == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(*all), func(a, b Found) int { return strings.Compare(a.Name, b.Name) })
}

// isPlain reports whether a name can be shown as it is. A long word in it may be a
// secret: Better Auth puts tokens into the names of further sessions.
func isPlain(name string) bool {
	word := 0
	for _, c := range name {
		switch {
		case c == '-', c == '_', c == '.':
			word = 0
			continue
		case (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9'):
			return false
		}
		if word++; word > maxWord {
			return false
		}
	}
	return name != ""
}

// isNone reports whether the name says that the cookie is something else than a
// session: part of a sign-in under way, or against forged requests.
func isNone(name string) bool {
	return slices.ContainsFunc([]string{
		"csrf", "xsrf", "CSRF", "XSRF", "state", "nonce", "pkce", "verifier", "challenge", "callback-url", "two_factor", "trust_device", "dont_remember",
		"account_data", "__txn_", "__fc_", "theme", "locale", "consent",
	}, func(part string) bool { return strings.Contains(name, part) })
}

// isUsual reports whether a name is a default of some library. Names that somebody
// makes up do not keep it from being noticed.
func isUsual(name string) bool {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "__Secure-"), "__Host-")
	return slices.Contains([]string{
		Bearer, "__session", "_session", "session", "connect.sid", "nuxt-session", "h3", "wos-session", "appSession", "token", "jwt",
		"access_token", "auth_token", "authjs.session-token", "next-auth.session-token", "better-auth.session_token", "better-auth.session_data",
	}, name)
}
