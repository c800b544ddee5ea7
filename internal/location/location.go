// Package location keeps passwords out of what is shown of addresses: it tells
// where an address cannot be divided with certainty into a password and the rest.
package location

import (
	"net/netip"
	"strings"
)

// Torn reports whether a URL may have been cut inside its password: it has an @
// after the first slash, question mark or hash behind the scheme. What parsers take
// for its host is then perhaps the beginning of a password, and what they take for
// its path or query the rest.
func Torn(url string) bool {
	_, rest, found := strings.Cut(url, "://")
	if !found {
		_, rest, _ = strings.Cut(url, ":")
	}
	end := strings.IndexAny(rest, "/?#")
	return end >= 0 && strings.Contains(rest[end:], "@")
}

// ValidHost reports whether a text is a host name or an IP address, without a port.
func ValidHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return text != "" && Plain(text, "-._")
}

// Plain reports whether a text has nothing but ASCII letters, digits and the others.
func Plain(text, others string) bool {
	for _, c := range text {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune(others, c):
		default:
			return false
		}
	}
	return true
}
