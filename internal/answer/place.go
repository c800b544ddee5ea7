package answer

import (
	"iter"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// place is where a browser keeps a cookie: it has one of the same name for each
// place.
type place struct {
	domain      string // empty for the host alone
	path        string
	partitioned bool
}

// clear adds the field that makes a browser delete a cookie there.
func (p place) clear(h http.Header, name string, https bool) {
	host := strings.HasPrefix(name, "__Host-")
	if host && (p.domain != "" || p.path != "/") {
		return
	}
	cookie := http.Cookie{
		Name: name, Domain: p.domain, Path: p.path, MaxAge: -1, Partitioned: p.partitioned,
		Secure: https || p.partitioned || host || strings.HasPrefix(name, "__Secure-"),
	}
	if cookie.Valid() == nil { // String leaves out what is not, so it would be another place
		h.Add("Set-Cookie", cookie.String())
	}
}

// maxPlaces bounds the places that are learned.
const maxPlaces = 4

// Learn notes where the app keeps its session cookies, by the Set-Cookie fields of a
// response for which isSession is true.
func (a *Responder) Learn(header http.Header, isSession func(name string) bool) {
	for at := range placesOf(header, isSession) {
		if at.path == "" {
			continue
		}
		known := a.seen()
		if !slices.Contains(known, at) && len(known) < maxPlaces {
			all := append(slices.Clone(known), at)
			a.places.Store(&all)
		}
	}
}

// placesOf returns where a browser keeps the cookies that a response sets, if their
// names have a property. The path is empty if it is that of the request.
func placesOf(header http.Header, has func(name string) bool) iter.Seq[place] {
	return func(yield func(place) bool) {
		for _, line := range header["Set-Cookie"] {
			cookie, err := http.ParseSetCookie(line)
			if err != nil || cookie.MaxAge < 0 || cookie.Value == "" || !has(cookie.Name) {
				continue
			}
			if !strings.HasPrefix(cookie.Path, "/") {
				cookie.Path = ""
			}
			if !yield(place{strings.ToLower(strings.TrimPrefix(cookie.Domain, ".")), cookie.Path, cookie.Partitioned}) {
				return
			}
		}
	}
}

// placeOf returns the place of all cookies of the given names that a response sets.
// It is not ok if there is none, or they have several places.
func placeOf(header http.Header, names []string) (at place, ok bool) {
	for found := range placesOf(header, func(name string) bool { return slices.Contains(names, name) }) {
		if found.path == "" || ok && found != at {
			return place{}, false
		}
		at, ok = found, true
	}
	return at, ok
}

// maxKept bounds the sessions whose place is remembered.
const maxKept = 4096

// kept remembers where a browser keeps single sessions, because the app has set them
// there. A request tells neither the Domain nor the Path of its cookies.
type kept struct {
	mu   sync.Mutex
	at   map[string]place // by onHost; zero if there are several
	ring []string         // the keys
	next int              // the oldest
}

func (k *kept) add(key string, at place, unique bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before, known := k.at[key]
	if known {
		if !unique || before != at {
			k.at[key] = place{}
		}
		return
	}
	if k.at == nil {
		k.at = make(map[string]place)
	}
	if len(k.ring) < maxKept {
		k.ring = append(k.ring, key)
	} else {
		delete(k.at, k.ring[k.next])
		k.ring[k.next] = key
		k.next = (k.next + 1) % maxKept
	}
	at.domain, at.path = strings.Clone(at.domain), strings.Clone(at.path) // without the field they are a part of
	if k.at[key] = at; !unique {
		k.at[key] = place{}
	}
}

func (k *kept) find(key string) (at place, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at = k.at[key]
	return at, at != place{}
}

// Keeps notes where the browser will keep the session with a mark, which the response
// to a request sets in cookies of the given names.
func (a *Responder) Keeps(r *http.Request, header http.Header, names []string, mark string) {
	if mark == "" || len(r.Host) > maxPlaceBytes {
		return
	}
	at, unique := placeOf(header, names)
	a.kept.add(onHost(r, mark), at, unique && len(at.domain)+len(at.path) <= maxPlaceBytes)
}

// onHost returns what identifies a session on the host of a request: on another, the
// browser may keep it elsewhere.
func onHost(r *http.Request, mark string) string { return strings.ToLower(hostname(r)) + " " + mark }

// maxPlaceBytes bounds the places of single sessions.
const maxPlaceBytes = 256

// seen returns the places that were learned.
func (a *Responder) seen() []place {
	if places := a.places.Load(); places != nil {
		return *places
	}
	return nil
}

// Advice returns what to configure so that the session cookies of a request are
// deleted; empty if that is not known.
func (a *Responder) Advice() string {
	for _, at := range a.seen() {
		if at.domain != "" && !slices.Contains(a.cookieDomains, at.domain) {
			return "the app sets it with Domain=" + at.domain + ": set `cookie_domain " + at.domain + "`"
		}
	}
	if len(a.cookieDomains) == 0 {
		return "if the app sets it with a Domain, set `cookie_domain` to that; if with a Path other than /, let it set Path=/"
	}
	return "compare its Domain, Path and Secure in the browser with `cookie_domain`; behind a proxy that ends TLS, set Caddy's trusted_proxies"
}

// hostname returns the host of a request without a port.
func hostname(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}
