package session

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// keyring is one key of each kind, and the header that names it.
func keyring(t testing.TB) (e encrypted, tokens map[string]func(payload []byte) string) {
	t.Helper()
	e, err := newEncrypted([]string{secret}, []string{v4Name, v5Name})
	if err != nil {
		t.Fatal(err)
	}
	tokens = map[string]func([]byte) string{}
	for base, key := range map[string]contentKey{v4Name: e.v4[0], v5Name: e.v5[v5Name][0]} {
		tokens[base] = func(payload []byte) string {
			options := new(jose.EncrypterOptions)
			if key.id != "" {
				options = options.WithHeader("kid", key.id)
			}
			encrypter, err := jose.NewEncrypter(jose.ContentEncryption(key.enc), jose.Recipient{Algorithm: jose.DIRECT, Key: key.bytes}, options)
			if err != nil {
				t.Fatal(err)
			}
			token, err := encrypter.Encrypt(payload)
			if err != nil {
				t.Fatal(err)
			}
			text, err := token.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
	}
	return e, tokens
}

// joseOpens is what go-jose makes of a token, as far as it is one for us: where
// the tag begins is put right, and a header that is not in the one form of its
// base64 is refused, because its tag is of another.
func joseOpens(e encrypted, base, text string) ([]byte, bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 5 || parts[1] != "" {
		return nil, false
	}
	header, err := strict.DecodeString(parts[0])
	if err != nil || base64.RawURLEncoding.EncodeToString(header) != parts[0] {
		return nil, false
	}
	var decoded [5][]byte
	for i := 2; i < 5; i++ {
		var ok bool
		if decoded[i], ok = appendBase64(nil, parts[i]); !ok {
			return nil, false
		}
	}
	key, tag := e.v4[0], aes.BlockSize
	if base == v5Name {
		key, tag = e.v5[v5Name][0], cbcTagBytes
	}
	sealed := slices.Concat(decoded[3], decoded[4])
	if len(sealed) < tag {
		return nil, false
	}
	decoded[3], decoded[4] = sealed[:len(sealed)-tag], sealed[len(sealed)-tag:]
	for i := 2; i < 5; i++ {
		parts[i] = base64.RawURLEncoding.EncodeToString(decoded[i])
	}
	token, err := jose.ParseEncryptedCompact(strings.Join(parts, "."), []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.ContentEncryption(key.enc)})
	if err != nil {
		return nil, false
	}
	payload, err := token.Decrypt(key.bytes)
	return payload, err == nil
}

// FuzzDecrypt alters a token at one place, in one of its segments: a character,
// or what is left of it.
func FuzzDecrypt(f *testing.F) {
	e, seals := keyring(f)
	for segment := range byte(5) {
		f.Add([]byte(`{"sub":"ada"}`), segment, uint16(3), byte('A'), uint16(0))
		f.Add([]byte(`{"sub":"ada"}`), segment, uint16(0), byte(0), uint16(1))
		f.Add(bytes.Repeat([]byte("x"), 32), segment, uint16(0), byte('!'), uint16(4))
	}
	f.Add([]byte{}, byte(5), uint16(0), byte(0), uint16(0))
	f.Fuzz(func(t *testing.T, payload []byte, segment byte, at uint16, character byte, cut uint16) {
		for base, seal := range seals {
			parts := strings.Split(seal(payload), ".")
			if part := []byte(parts[segment%5]); len(part) > 0 {
				if character != 0 {
					part[int(at)%len(part)] = character
				}
				parts[segment%5] = string(part[:len(part)-int(cut)%(len(part)+1)])
			}
			text := strings.Join(parts, ".")
			got, opens := e.decrypt(base, text)
			want, wants := joseOpens(e, base, text)
			if opens != wants || !bytes.Equal(got, want) {
				t.Errorf("%q: %q, %t; go-jose: %q, %t", text, got, opens, want, wants)
			}
		}
	})
}

func TestATokenThatWasAlteredIsNotOpened(t *testing.T) {
	e, seals := keyring(t)
	payload := []byte(`{"sub":"ada","name":"a name of some length"}`)
	for base, seal := range seals {
		parts := strings.Split(seal(payload), ".")
		if got, ok := e.decrypt(base, strings.Join(parts, ".")); !ok || !bytes.Equal(got, payload) {
			t.Fatalf("%s: %q, %t", base, got, ok)
		}
		for i, name := range map[int]string{0: "header", 2: "initialization vector", 3: "content", 4: "tag"} {
			whole, err := base64.RawURLEncoding.DecodeString(parts[i])
			if err != nil {
				t.Fatal(err)
			}
			refused := func(what string, part []byte) {
				t.Helper()
				altered := slices.Clone(parts)
				altered[i] = base64.RawURLEncoding.EncodeToString(part)
				if got, ok := e.decrypt(base, strings.Join(altered, ".")); ok {
					t.Errorf("%s: with %s of the %s: %q", base, what, name, got)
				}
			}
			for at := range whole {
				for bit := range 8 {
					flipped := slices.Clone(whole)
					flipped[at] ^= 1 << bit
					refused("another bit", flipped)
				}
				refused("the beginning", whole[:at])
			}
			refused("more", append(slices.Clone(whole), 0))
			refused("an end", whole[1:])
		}
		for _, text := range []string{
			strings.Join(parts[:4], "."), strings.Join(parts, ".") + ".", strings.Join(parts, ".") + ".a", "....",
			parts[0] + ".AAAA." + strings.Join(parts[2:], "."), parts[0] + "....", parts[0] + ".." + parts[2] + "..",
		} {
			if _, ok := e.decrypt(base, text); ok {
				t.Errorf("%q is opened", text)
			}
		}
	}
}

// Web Crypto takes the content and the tag in one piece, so to the libraries
// that use it a token is the same wherever the two are cut apart.
func TestWhereTheTagBeginsDoesNotCount(t *testing.T) {
	e, seals := keyring(t)
	for base, seal := range seals {
		parts := strings.Split(seal([]byte(`{"sub":"ada"}`)), ".")
		sealed, err := base64.RawURLEncoding.DecodeString(parts[3])
		if err != nil {
			t.Fatal(err)
		}
		tag, err := base64.RawURLEncoding.DecodeString(parts[4])
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, tag...)
		for n := range sealed {
			parts[3], parts[4] = base64.RawURLEncoding.EncodeToString(sealed[:n]), base64.RawURLEncoding.EncodeToString(sealed[n:])
			if got, ok := e.decrypt(base, strings.Join(parts, ".")); !ok || string(got) != `{"sub":"ada"}` {
				t.Errorf("%s: cut after %d of %d: %q, %t", base, n, len(sealed), got, ok)
			}
		}
	}
}

// What has the right tag but is padded wrongly nobody can make who has not the
// key; it is refused all the same.
func TestContentThatIsPaddedWrongly(t *testing.T) {
	key := bytes.Repeat([]byte{7}, bytesCBC)
	ours, err := newAEAD(a256CBCHS512, key)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := josecipher.NewCBCHMAC(key, aes.NewCipher)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key[cbcTagBytes:])
	if err != nil {
		t.Fatal(err)
	}
	nonce, data := make([]byte, cbcNonceBytes), []byte("header")
	for name, c := range map[string]struct {
		padded string
		want   string
		opens  bool
	}{
		"as it should be":     {"fifteen letters\x01", "fifteen letters", true},
		"nothing but padding": {strings.Repeat("\x10", 16), "", true},
		"two blocks":          {"sixteen letters!" + strings.Repeat("\x10", 16), "sixteen letters!", true},
		"none":                {"fifteen letters\x00", "", false},
		"more than a block":   {"sixteen letters!" + strings.Repeat("\x11", 16), "", false},
		"of different bytes":  {"thirteen lett\x02\x03\x03", "", false},
		"no content":          {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			sealed := []byte(c.padded)
			cipher.NewCBCEncrypter(block, nonce).CryptBlocks(sealed, sealed)
			mac := hmac.New(sha512.New, key[:cbcTagBytes])
			mac.Write(slices.Concat(data, nonce, sealed, binary.BigEndian.AppendUint64(nil, uint64(len(data))*8)))
			sealed = append(sealed, mac.Sum(nil)[:cbcTagBytes]...)
			for whose, opener := range map[string]aead{"ours": ours, "go-jose's": theirs} {
				got, err := opener.Open(nil, nonce, sealed, data)
				if string(got) != c.want || (err == nil) != c.opens {
					t.Errorf("%s: %q, %v", whose, got, err)
				}
			}
			if got, err := ours.Open([]byte("before "), nonce, sealed, data); c.opens && (err != nil || string(got) != "before "+c.want) {
				t.Errorf("appended: %q, %v", got, err)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	rd := newReader(b, Config{})
	for name, c := range map[string]struct{ base, token string }{
		"v4": {v4Name, v4(b, "clx0a1b2c0000qwer1234tyui")},
		"v5": {v5Name, v5(b, v5Name, "clx0a1b2c0000qwer1234tyui")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, failure := rd.open(c.base, c.token); failure != "" {
					b.Fatal(failure)
				}
			}
		})
	}
}
