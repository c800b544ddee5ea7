package jose

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

	gojose "github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"github.com/seed-4adef13c/caddy-stale-session/internal/location"
)

// How a key set at a URL is fetched, and how much of it is used.
const (
	refreshInterval    = time.Hour
	unknownKeyInterval = 5 * time.Minute // at most one fetch for unknown key ids in this time
	fetchTimeout       = 10 * time.Second
	patience           = 3 * time.Second // how long a patient Verifier waits for a fetch
	minRetryDelay      = time.Second
	maxRetryDelay      = time.Minute
	maxKeySetBytes     = 1 << 20
	maxKeys            = 64
)

// JWKS is a JSON Web Key Set (RFC 7517) from a file or a URL. Only its public
// signature keys are used. It is safe for concurrent use.
type JWKS struct {
	url     string
	issuer  string // whose metadata are at url, and name the set; empty if url is the set's
	failed  func(error)
	keys    atomic.Pointer[[]gojose.JSONWebKey] // nil until fetched
	unknown chan struct{}                       // signals an unknown key id; nil for a file
	limit   *rate.Limiter                       // of fetches for these: anyone can send them
	asked   atomic.Uint64                       // how many fetches were asked for by these
	fetched atomic.Uint64                       // how many of them are done
	attempt atomic.Pointer[chan struct{}]       // closed when the next fetch ends
	// generation counts how often keys were stored.
	generation atomic.Uint64
	cancel     context.CancelFunc
	done       sync.WaitGroup
}

// OpenJWKS opens the key set at a path or an http or https URL. A file is read
// once, before OpenJWKS returns. A URL is fetched in the background, every hour
// and when a token names an unknown key, until Close; failed is called with the
// error of each fetch that fails.
func OpenJWKS(address string, failed func(error)) (*JWKS, error) {
	j, err := LazyJWKS(address)
	if err != nil || j.url == "" {
		return j, err
	}
	return j.open(failed), nil
}

// DiscoverJWKS is OpenJWKS for the key set that the metadata of an issuer name, at an
// http or https URL.
func DiscoverJWKS(metadata, issuer string, failed func(error)) (*JWKS, error) {
	if _, err := url.Parse(metadata); err != nil || issuer == "" || !strings.HasPrefix(metadata, "https://") && !strings.HasPrefix(metadata, "http://") {
		return nil, errors.New("the key set cannot be discovered, because the issuer is no URL that begins with https://: set `jwks`")
	}
	j := &JWKS{url: metadata, issuer: issuer}
	return j.open(failed), nil
}

func (j *JWKS) open(failed func(error)) *JWKS {
	ctx, cancel := context.WithCancel(context.Background())
	j.failed, j.unknown, j.cancel = failed, make(chan struct{}, 1), cancel
	j.limit = rate.NewLimiter(rate.Every(unknownKeyInterval), 1)
	attempt := make(chan struct{})
	j.attempt.Store(&attempt)
	j.done.Go(func() { j.refresh(ctx) })
	return j
}

// FetchJWKS is OpenJWKS for what needs the keys at once: it fetches a URL before it
// returns, and never again.
func FetchJWKS(ctx context.Context, address string) (*JWKS, error) {
	j, err := LazyJWKS(address)
	if err != nil || j.url == "" {
		return j, err
	}
	if err := j.fetch(ctx); err != nil {
		return nil, fmt.Errorf("cannot fetch the key set: %w", err)
	}
	return j, nil
}

// LazyJWKS returns the key set at an address, which never has keys if that is a URL:
// nothing fetches them.
func LazyJWKS(address string) (*JWKS, error) {
	j := &JWKS{cancel: func() {}}
	if !strings.Contains(address, "://") {
		text, err := os.ReadFile(address)
		if err != nil {
			return nil, err
		}
		keys, err := parseKeySet(text)
		if err != nil {
			return nil, err
		}
		j.keys.Store(&keys)
		return j, nil
	}
	u, err := url.Parse(address)
	if err == nil && location.Torn(address) {
		return nil, errors.New("the URL of the key set has an @ behind its host: percent-encode it (%40), and the characters /, ?, # and @ of a password in it")
	}
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the key set must be a file, or a URL that begins with https:// or http://")
	}
	j.url = address
	return j, nil
}

// Close stops fetching the set. It always returns nil.
func (j *JWKS) Close() error {
	j.cancel()
	j.done.Wait()
	return nil
}

// errKeyUnknown is the error of JWKS.find while the set is fetched for an unknown key id.
var errKeyUnknown = errors.New("the key set is being fetched because it lacks the key")

// find returns the keys that may verify an algorithm: those with the key id if
// the token has one, otherwise all.
func (j *JWKS) find(id string, hasID bool, algorithm string) ([]jwt.VerificationKey, error) {
	keys := j.keys.Load()
	if keys == nil {
		return nil, ErrKeysUnavailable
	}
	var found []jwt.VerificationKey
	known := false
	for _, key := range *keys {
		if hasID && key.KeyID != id {
			continue
		}
		known = true
		if (key.Algorithm == "" || key.Algorithm == algorithm) && slices.Contains(algorithmsOf(key.Key), algorithm) {
			found = append(found, key.Key)
		}
	}
	if hasID && !known && j.unknown != nil {
		if j.limit.Allow() {
			j.asked.Add(1)
			select {
			case j.unknown <- struct{}{}:
			default:
			}
		}
		if j.asked.Load() != j.fetched.Load() {
			return nil, errKeyUnknown
		}
	}
	return found, nil
}

// await waits for the fetch that an unknown key id has asked for, but not for long.
func (j *JWKS) await() {
	attempt := *j.attempt.Load()
	if j.asked.Load() == j.fetched.Load() {
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-attempt:
	case <-timer.C:
	}
}

// refresh keeps the set up to date until ctx is done. A fetch that fails is
// retried with backoff. Unknown key ids trigger a fetch too.
func (j *JWKS) refresh(ctx context.Context) {
	retry := minRetryDelay
	for {
		wait := refreshInterval
		asked := j.asked.Load()
		if err := j.fetch(ctx); err != nil {
			if ctx.Err() == nil {
				j.failed(fmt.Errorf("of %s: %w", j.host(), err))
			}
			wait, retry = retry, min(2*retry, maxRetryDelay)
		} else {
			retry = minRetryDelay
			j.fetched.Store(asked)
		}
		next := make(chan struct{})
		close(*j.attempt.Swap(&next))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-j.unknown:
		}
		timer.Stop()
	}
}

// host returns where the set, or what names it, is: of the URL all else may be a secret.
func (j *JWKS) host() string {
	u, err := url.Parse(j.url)
	if err != nil {
		return ""
	}
	return u.Host
}

func (j *JWKS) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	address := j.url
	if j.issuer != "" {
		var err error
		if address, err = j.discover(ctx); err != nil {
			return err
		}
	}
	text, err := get(ctx, address)
	if err != nil {
		return err
	}
	keys, err := parseKeySet(text)
	if err != nil {
		return err
	}
	j.keys.Store(&keys)
	j.generation.Add(1)
	return nil
}

// discover returns the URL of the set that the metadata name, which must be those of the
// issuer.
func (j *JWKS) discover(ctx context.Context) (string, error) {
	text, err := get(ctx, j.url)
	if err != nil {
		return "", fmt.Errorf("fetching the metadata: %w", err)
	}
	var metadata struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &metadata); err != nil || metadata.JWKS == "" {
		return "", errors.New("the metadata have no jwks_uri")
	}
	if metadata.Issuer != j.issuer {
		return "", errors.New("the metadata are of another issuer: set `issuer` exactly as they have it")
	}
	plain := strings.HasPrefix(j.url, "http://") && strings.HasPrefix(metadata.JWKS, "http://")
	if !plain && !strings.HasPrefix(metadata.JWKS, "https://") {
		return "", errors.New("the jwks_uri in the metadata does not begin with https://")
	}
	return metadata.JWKS, nil
}

// get returns what is at a URL.
func get(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, errors.New("it is no URL")
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) { // the URL may hold a secret
			err = withURL.Err
		}
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxKeySetBytes))
}

// parseKeySet returns the public signature keys of a set. It skips keys of
// other kinds.
func parseKeySet(text []byte) ([]gojose.JSONWebKey, error) {
	if tooDeep(text) {
		return nil, errors.New("the JSON is nested too deeply for a key set")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New(`not a JSON Web Key Set, which is {"keys":[…]}`)
	}
	var keys []gojose.JSONWebKey
	secrets := false
	for _, raw := range set.Keys {
		var key gojose.JSONWebKey
		if err := json.Unmarshal(raw, &key); err != nil || key.Use == "enc" {
			continue
		}
		if _, ok := key.Key.([]byte); ok {
			secrets = true
		}
		if public := key.Public(); public.Valid() && len(algorithmsOf(public.Key)) > 0 && len(keys) < maxKeys {
			keys = append(keys, public)
		}
	}
	if len(keys) == 0 && secrets {
		return nil, errors.New("the key set has keys of the kind \"oct\" only, which are secrets and not used: write the decoded bytes of `k` into a file, and set `secret {file.PATH}`")
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no public key that can verify tokens: one of RSA, EC P-256, P-384 or P-521, or Ed25519 is needed")
	}
	return keys, nil
}
