package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

// How a key set at a URL is kept up to date.
const (
	refreshInterval  = time.Hour
	unknownInterval  = 5 * time.Minute // between two refreshes for an unknown kid
	fetchTimeout     = 10 * time.Second
	firstRetry       = time.Second
	lastRetry        = time.Minute
	maxKeySet        = 1 << 20
	maxPublishedKeys = 64
)

// JWKS is a JSON Web Key Set (RFC 7517) from a file or a URL. Symmetric keys
// in it are ignored.
type JWKS struct {
	keys    atomic.Pointer[[]jose.JSONWebKey] // nil until fetched
	unknown chan struct{}                     // asks for a refresh
	close   context.CancelFunc
	done    sync.WaitGroup
	url     string
	failed  func(error)
}

// OpenJWKS opens a key set. A file is read now. A URL is fetched in the
// background until Close, and as long as that fails the set is unavailable;
// failed is called with each failure.
func OpenJWKS(location string, failed func(error)) (*JWKS, error) {
	if !strings.Contains(location, "://") {
		text, err := os.ReadFile(location)
		if err != nil {
			return nil, err
		}
		keys, err := parseKeySet(text)
		if err != nil {
			return nil, err
		}
		j := &JWKS{close: func() {}}
		j.keys.Store(&keys)
		return j, nil
	}
	u, err := url.Parse(location)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("it must be a file, or a URL that begins with https:// or http://")
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &JWKS{unknown: make(chan struct{}, 1), close: cancel, url: location, failed: failed}
	j.done.Go(func() { j.refresh(ctx) })
	return j, nil
}

// Close ends the refreshing of the set.
func (j *JWKS) Close() error {
	j.close()
	j.done.Wait()
	return nil
}

// find returns the keys that may verify an algorithm: those of the kid when
// the token names one, else all.
func (j *JWKS) find(id string, named bool, algorithm string) ([]jwt.VerificationKey, error) {
	keys := j.keys.Load()
	if keys == nil {
		return nil, errKeysUnavailable
	}
	var found []jwt.VerificationKey
	known := false
	for _, key := range *keys {
		if named && key.KeyID != id {
			continue
		}
		known = true
		if (key.Algorithm == "" || key.Algorithm == algorithm) && slices.Contains(algorithmsOf(key.Key), algorithm) {
			found = append(found, key.Key)
		}
	}
	if named && !known && j.unknown != nil {
		select {
		case j.unknown <- struct{}{}:
		default:
		}
	}
	return found, nil
}

// refresh fetches the set now and then, soon again as long as that fails, and
// when a token names a key that is not in it, but then not too often.
func (j *JWKS) refresh(ctx context.Context) {
	limit := rate.NewLimiter(rate.Every(unknownInterval), 1)
	retry := firstRetry
	for {
		wait := refreshInterval
		if err := j.fetch(ctx); err != nil {
			if ctx.Err() == nil {
				j.failed(err)
			}
			wait, retry = retry, min(2*retry, lastRetry)
		} else {
			retry = firstRetry
		}
		timer := time.NewTimer(wait)
		for again := false; !again; {
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
				again = true
			case <-j.unknown:
				again = limit.Allow()
			}
		}
		timer.Stop()
	}
}

// fetch fetches the set.
func (j *JWKS) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) { // the URL may hold a secret
			err = withURL.Err
		}
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet))
	if err != nil {
		return err
	}
	keys, err := parseKeySet(text)
	if err != nil {
		return err
	}
	j.keys.Store(&keys)
	return nil
}

// parseKeySet reads the public keys of a set, and passes over those of kinds
// that are not known here.
func parseKeySet(text []byte) ([]jose.JSONWebKey, error) {
	if tooDeep(text) {
		return nil, errors.New("it is nested too deep for a JSON Web Key Set")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New(`it is no JSON Web Key Set: {"keys":[…]}`)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if err := json.Unmarshal(raw, &key); err != nil || key.Use == "enc" {
			continue
		}
		if public := key.Public(); public.Valid() && len(algorithmsOf(public.Key)) > 0 && len(keys) < maxPublishedKeys {
			keys = append(keys, public)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no public key that can verify tokens")
	}
	return keys, nil
}
