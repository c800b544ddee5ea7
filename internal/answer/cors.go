package answer

import (
	"net/http"
	"strings"
	"sync"
)

// Limits on the origins that are remembered.
const (
	maxAllowed      = 1024
	maxAllowedBytes = 512 // of an address and an origin
)

// allowed remembers which origins the app lets read its answers, and where: its
// script gets an answer of ours only there. A preflight has no cookie, so it goes to
// the app, and so does the request of a live session.
type allowed struct {
	mu   sync.RWMutex
	has  map[allowance]bool
	ring []allowance
	next int // the oldest
}

// allowance is what the app allows: an origin may read an address with credentials.
type allowance struct{ host, path, origin string }

// allowanceOf returns what the app would have to allow for a page to read the answer
// to a request. It is not ok for a request of no page, or one that has no origin of
// its own.
func allowanceOf(r *http.Request) (a allowance, ok bool) {
	origins := r.Header["Origin"]
	if len(origins) != 1 || origins[0] == "" || origins[0] == "null" {
		return allowance{}, false
	}
	a = allowance{r.Host, Requested(r).Path, origins[0]}
	return a, len(a.host)+len(a.path)+len(a.origin) <= maxAllowedBytes
}

// Allows notes whether a response of the app lets the page that made the request read
// it, with credentials.
func (a *Responder) Allows(r *http.Request, header http.Header, status int) {
	of, ok := allowanceOf(r)
	origins, credentials := header["Access-Control-Allow-Origin"], header["Access-Control-Allow-Credentials"]
	if !ok || len(origins) != 1 || origins[0] != of.origin || len(credentials) != 1 || credentials[0] != "true" {
		return
	}
	if Preflight(r) && (status < http.StatusOK || status >= http.StatusMultipleChoices) {
		return // refused
	}
	a.allowed.mu.RLock()
	known := a.allowed.has[of]
	a.allowed.mu.RUnlock()
	if !known {
		a.allowed.add(of)
	}
}

func (k *allowed) add(of allowance) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.has[of]:
		return
	case k.has == nil:
		k.has = make(map[allowance]bool)
	}
	// They may be parts of a request line, which would stay in memory as a whole.
	of = allowance{strings.Clone(of.host), strings.Clone(of.path), strings.Clone(of.origin)}
	if len(k.ring) < maxAllowed {
		k.ring = append(k.ring, of)
	} else {
		delete(k.has, k.ring[k.next])
		k.ring[k.next] = of
		k.next = (k.next + 1) % maxAllowed
	}
	k.has[of] = true
}

// allow lets the page that made a request read the answer, if the app would. It
// changes nothing if the fields are there.
func (a *Responder) allow(h http.Header, r *http.Request) {
	of, ok := allowanceOf(r)
	if !ok || h["Access-Control-Allow-Origin"] != nil {
		return
	}
	a.allowed.mu.RLock()
	defer a.allowed.mu.RUnlock()
	if a.allowed.has[of] {
		h.Set("Access-Control-Allow-Origin", of.origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		vary(h, "Origin")
	}
}
