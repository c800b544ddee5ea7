package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-4adef13c/caddy-stale-session/internal/testing/mint"
)

// costBytes is the size of what fills a request, which Caddy accepts by default.
const costBytes = 15_000

// signer makes tokens of an algorithm.
type signer struct {
	algorithm string
	key       crypto.Signer
	signature int // its length
	made      int
}

func (s *signer) unsigned(subject string) string {
	s.made++ // each is another one
	payload, err := json.Marshal(map[string]any{"sub": subject, "jti": s.made, "iat": time.Now().Add(-time.Hour).Unix()})
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"`+s.algorithm+`"}`)) + "." + encode(payload)
}

// sign returns a token of the app.
func (s *signer) sign(subject string) string {
	text := s.unsigned(subject)
	var signature []byte
	var err error
	switch key := s.key.(type) {
	case *ecdsa.PrivateKey:
		hash := sha512.Sum512([]byte(text))
		r, v, fails := ecdsa.Sign(rand.Reader, key, hash[:])
		err = fails
		if err == nil {
			signature = make([]byte, s.signature)
			r.FillBytes(signature[:s.signature/2])
			v.FillBytes(signature[s.signature/2:])
		}
	case *rsa.PrivateKey:
		hash := sha256.Sum256([]byte(text))
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash[:])
	}
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// forge returns a token whose signature takes as long to verify as a good one.
func (s *signer) forge() string {
	signature := make([]byte, s.signature)
	for i := range signature {
		signature[i] = byte(mathrand.Uint32())
	}
	signature[0] = 0 // in the range of the key
	signature[s.signature/2] = 0
	return s.unsigned(subject(1)) + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// costly is a kind of request that is made to cost much. Good is one of its size that
// is not: of a session that is known, or, with unseen, that is read for the first time.
type costly struct {
	name   string
	keys   []*signer // that tokens are signed with; none for NextAuth's
	cookie string    // the name of the session cookie, the default if empty
	unseen bool
	bad    func() http.Header
}

func costlies(b *testing.B) []costly {
	b.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	es512 := &signer{algorithm: "ES512", key: ec, signature: 132}
	three := make([]*signer, 3)
	for i := range three {
		key, err := rsa.GenerateKey(rand.Reader, 4096)
		if err != nil {
			b.Fatal(err)
		}
		three[i] = &signer{algorithm: "RS256", key: key, signature: 512}
	}
	lines := func(n int, before string, token func() string) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = before + token()
		}
		return all
	}
	filled := func(piece func(i int) string) string {
		var text strings.Builder
		for i := 0; text.Len() < costBytes; i++ {
			text.WriteString(piece(i))
		}
		return text.String()
	}
	names := filled(func(i int) string { return fmt.Sprintf("s%x;", i) })
	escapes := "s=" + filled(func(int) string { return "%41" })
	iatless, err := mint.V4(secret, map[string]any{"sub": subject(gone)})
	if err != nil {
		b.Fatal(err)
	}
	one := es512.forge()
	return []costly{
		{"57 forged Bearer tokens of ES512 and 64 cookies", []*signer{es512}, "s", true, func() http.Header {
			return http.Header{"Authorization": lines(57, "Bearer ", es512.forge), "Cookie": lines(64, "s=", es512.forge)}
		}},
		{"4 forged Bearer tokens of ES512", []*signer{es512}, "s", true, func() http.Header {
			return http.Header{"Authorization": lines(4, "Bearer ", es512.forge)}
		}},
		{"8 forged cookies of ES512", []*signer{es512}, "s", true, func() http.Header {
			return http.Header{"Cookie": lines(8, "s=", es512.forge)}
		}},
		{"a forged token of ES512 again", []*signer{es512}, "s", false, func() http.Header {
			return http.Header{"Cookie": {"s=" + one}}
		}},
		{"3 forged Bearer tokens without kid, 3 keys of RSA-4096", three, "s", true, func() http.Header {
			return http.Header{"Authorization": lines(3, "Bearer ", three[0].forge)}
		}},
		{"15 KB of names", nil, "s", false, func() http.Header { return http.Header{"Cookie": {names}} }},
		{"15 KB of escapes", nil, "s", false, func() http.Header { return http.Header{"Cookie": {escapes}} }},
		{"a stale session without iat again", nil, "", false, func() http.Header {
			return http.Header{"Cookie": {cookieV4 + "=" + iatless}}
		}},
	}
}

// config returns the options of the handler, and writes its key file.
func (c *costly) config(b *testing.B) string {
	b.Helper()
	options := map[string]any{"guarded": []map[string]any{{"path": []string{"/admin*"}}}}
	if c.cookie != "" {
		options["cookies"] = []string{c.cookie}
	}
	if c.keys != nil {
		var file []byte
		for _, k := range c.keys {
			der, err := x509.MarshalPKIXPublicKey(k.key.Public())
			if err != nil {
				b.Fatal(err)
			}
			file = append(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
		}
		name := filepath.Join(b.TempDir(), "keys.pem")
		if err := os.WriteFile(name, file, 0o600); err != nil {
			b.Fatal(err)
		}
		options["key_file"] = name
	}
	text, err := json.Marshal(options)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// good returns a request of a person, of a size.
func (c *costly) good(b *testing.B, size int) http.Header {
	b.Helper()
	name := cmp.Or(c.cookie, cookieV4)
	var token string
	if c.keys != nil {
		// Of several keys, any can be the right one: the one in the middle is the average.
		token = c.keys[len(c.keys)/2].sign(subject(1))
	} else {
		made, err := mint.V4(secret, claims(subject(1)))
		if err != nil {
			b.Fatal(err)
		}
		token = made
	}
	line := name + "=" + token
	return http.Header{"Cookie": {line + "; theme=" + strings.Repeat("d", max(0, size-len(line)-len("; theme=")))}}
}

// written returns a request as it is sent.
func written(header http.Header) []byte {
	var text bytes.Buffer
	text.WriteString("GET /admin HTTP/1.1\r\nHost: app.example.com\r\nAccept: text/html\r\n")
	_ = header.Write(&text) // to memory
	text.WriteString("\r\n")
	return text.Bytes()
}

func sizeOf(header http.Header) (size int) {
	for name, lines := range header {
		for _, line := range lines {
			size += len(name) + len(": \r\n") + len(line)
		}
	}
	return size - len("Cookie: \r\n")
}

// BenchmarkCost compares requests that are made to cost much with good ones of their
// size: from the bytes of the request to the next handler or the answer.
func BenchmarkCost(b *testing.B) {
	for _, c := range costlies(b) {
		handler := newHandler(b, c.config(b))
		next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusOK)
			return nil
		})
		in := bufio.NewReader(nil)
		w := &answerless{header: http.Header{}}
		serve := func(text []byte) {
			clear(w.header)
			in.Reset(bytes.NewReader(text))
			r, err := http.ReadRequest(in)
			if err != nil {
				b.Fatal(err)
			}
			r = caddyhttp.PrepareRequest(r.WithContext(context.Background()), caddy.NewReplacer(), w, new(caddyhttp.Server))
			if err := handler.ServeHTTP(w, r, next); err != nil {
				b.Fatal(err)
			}
		}
		size := sizeOf(c.bad())
		for _, kind := range []struct {
			name string
			make func() []byte
		}{
			{"good", func() []byte { return written(c.good(b, size)) }},
			{"bad", func() []byte { return written(c.bad()) }},
		} {
			b.Run(c.name+"/"+kind.name, func(b *testing.B) {
				text := kind.make()
				serve(text)
				b.ReportAllocs()
				for b.Loop() {
					if c.unseen {
						b.StopTimer()
						text = kind.make()
						b.StartTimer()
					}
					serve(text)
				}
			})
		}
	}
}
