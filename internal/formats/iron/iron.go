// Package iron opens Fe26.2 seals: the sessions of iron-session, h3,
// nuxt-auth-utils and WorkOS AuthKit, as iron-webcrypto 1.2 makes them.
package iron

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // the format derives its keys with it
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/seed-4adef13c/caddy-stale-session/internal/jose"
)

// minPassword is how many UTF-16 units a password has at least.
const minPassword = 32

// IsLongEnough reports whether the libraries seal anything with a password.
func IsLongEnough(password string) bool {
	return len(utf16.Encode([]rune(password))) >= minPassword
}

// Slow is how often the keys of h3 v2 are hashed. The others hash them once.
const Slow = 8192

// skew is how long the libraries read a seal that has expired.
const skew = time.Minute

const (
	prefix = "Fe26.2"
	// usualVersion is what iron-session 8 and 9 put behind a seal.
	usualVersion = "~2"
	fields       = 8
	keyBytes     = 32
	salt         = 64 // hex digits
	ivText       = 22 // base64url of an AES block
)

// Opener opens seals. It is safe for concurrent use.
type Opener struct {
	passwords  []string
	iterations []int
}

// New returns an opener of the seals that are made with one of the passwords. With
// slow it opens those of h3 v2 too; each seal that is not ours then costs
// milliseconds a password. It is an error if a password is too short.
func New(passwords []string, slow bool) (*Opener, error) {
	for _, password := range passwords {
		if !IsLongEnough(password) {
			return nil, fmt.Errorf("a secret is too short: the library takes only those of %d characters or more", minPassword)
		}
	}
	o := &Opener{passwords: passwords, iterations: []int{1}}
	if slow {
		o.iterations = append(o.iterations, Slow)
	}
	return o, nil
}

// IsSeal reports whether a text has the form of a seal, so that Open derives keys to
// open it.
func IsSeal(text string) bool {
	_, ok := parse(text)
	return ok
}

// seal holds the fields of a seal.
type seal struct {
	signed            string // the first six fields, which the MAC protects
	salt, iv, content string
	expires           string // milliseconds since 1970; empty for never
	macSalt           string
	mac               []byte
}

// parse splits a seal. What stands behind a tilde, as in those of iron-session, is not
// protected; iron-session 9 ignores it.
func parse(text string) (seal, bool) {
	if !strings.HasPrefix(text, prefix+"*") {
		return seal{}, false
	}
	text, _, _ = strings.Cut(text, "~")
	if strings.Count(text, "*") != fields-1 {
		return seal{}, false
	}
	f := strings.Split(text, "*")
	s := seal{
		signed: text[:len(text)-len(f[6])-len(f[7])-2],
		salt:   f[2], iv: f[3], content: f[4], expires: f[5], macSalt: f[6],
	}
	if !isSalt(s.salt) || len(s.iv) != ivText || len(s.content) < ivText || !isNumber(s.expires) || !isSalt(s.macSalt) {
		return seal{}, false
	}
	s.mac, _ = jose.DecodeBase64(f[7]) // iron-session 9 ignores blanks in it
	return s, len(s.mac) == sha256.Size
}

func isSalt(text string) bool {
	return len(text) == salt && strings.IndexFunc(text, func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') }) < 0
}

// isNumber reports whether a text is a number of at most 16 digits, or empty.
func isNumber(text string) bool {
	return len(text) <= 16 && strings.IndexFunc(text, func(c rune) bool { return c < '0' || c > '9' }) < 0
}

// Canonical returns a seal as iron-session or h3 makes it, without what is ignored.
func Canonical(text string) string {
	if s, ok := parse(text); ok {
		version := ""
		if strings.HasSuffix(text, usualVersion) {
			version = usualVersion
		}
		return s.signed + "*" + s.macSalt + "*" + base64.RawURLEncoding.EncodeToString(s.mac) + version
	}
	return text
}

// Open returns what is in a seal, and when the libraries no longer open it: the zero
// time for never. The error is jose.ErrInvalid.
func (o *Opener) Open(text string) (payload map[string]any, expires time.Time, err error) {
	s, ok := parse(text)
	if !ok {
		return nil, time.Time{}, jose.ErrInvalid
	}
	for _, iterations := range o.iterations {
		for _, password := range o.passwords {
			if !s.isBy(password, iterations) {
				continue
			}
			content, err := s.decrypt(password, iterations)
			if err != nil {
				return nil, time.Time{}, jose.ErrInvalid
			}
			payload, err = jose.ParsePayload(content)
			return payload, s.end(), err
		}
	}
	return nil, time.Time{}, jose.ErrInvalid
}

// isBy reports whether a seal was made with a password.
func (s *seal) isBy(password string, iterations int) bool {
	key, err := derive(password, s.macSalt, iterations)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(s.signed))
	return hmac.Equal(mac.Sum(nil), s.mac)
}

// decrypt returns the content of a seal that was made with a password.
func (s *seal) decrypt(password string, iterations int) ([]byte, error) {
	iv, err := base64.RawURLEncoding.DecodeString(s.iv)
	if err != nil {
		return nil, err
	}
	content, err := base64.RawURLEncoding.DecodeString(s.content)
	if err != nil {
		return nil, err
	}
	if len(iv) != aes.BlockSize || len(content) == 0 || len(content)%aes.BlockSize != 0 {
		return nil, errContent
	}
	key, err := derive(password, s.salt, iterations)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(content, content)
	padding := int(content[len(content)-1])
	if padding == 0 || padding > aes.BlockSize || slices.ContainsFunc(content[len(content)-padding:], func(b byte) bool { return int(b) != padding }) {
		return nil, errContent
	}
	return content[:len(content)-padding], nil
}

var errContent = errors.New("the content is not what the libraries write")

// end returns when the libraries no longer open a seal.
func (s *seal) end() time.Time {
	ms, err := strconv.ParseInt(s.expires, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).Add(skew)
}

func derive(password, salt string, iterations int) ([]byte, error) {
	return pbkdf2.Key(sha1.New, password, []byte(salt), iterations, keyBytes)
}
