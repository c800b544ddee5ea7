package jose

import (
	"bytes"
	"crypto/aes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
)

const (
	secret = "a secret"
	v4Name = "next-auth.session-token"
	v5Name = "authjs.session-token"
)

// newKeys returns a Decrypter, and what encrypts tokens for it by salt: that of
// NextAuth v4 and that of Auth.js v5.
func newKeys(t testing.TB) (d *Decrypter, encrypt map[string]func(payload []byte) string) {
	t.Helper()
	d, err := NewDecrypter([]string{secret}, []string{v4Name, v5Name})
	if err != nil {
		t.Fatal(err)
	}
	encrypt = map[string]func([]byte) string{}
	for salt, key := range map[string]contentKey{v4Name: d.v4[0], v5Name: d.v5[v5Name][0]} {
		encrypt[salt] = func(payload []byte) string {
			options := new(gojose.EncrypterOptions)
			if key.id != "" {
				options = options.WithHeader("kid", key.id)
			}
			encrypter, err := gojose.NewEncrypter(gojose.ContentEncryption(key.enc), gojose.Recipient{Algorithm: gojose.DIRECT, Key: key.bytes}, options)
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
	return d, encrypt
}

// goJoseDecrypts returns what go-jose makes of a token once its base64 and the
// place where the tag begins are put right. A header that is not in canonical
// base64 is refused, because go-jose would authenticate another one.
func goJoseDecrypts(d *Decrypter, salt, text string) ([]byte, bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 5 || parts[1] != "" {
		return nil, false
	}
	header, err := strictBase64.DecodeString(parts[0])
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
	key, tag := d.v4[0], aes.BlockSize
	if salt == v5Name {
		key, tag = d.v5[v5Name][0], cbcTagBytes
	}
	sealed := slices.Concat(decoded[3], decoded[4])
	if len(sealed) < tag {
		return nil, false
	}
	decoded[3], decoded[4] = sealed[:len(sealed)-tag], sealed[len(sealed)-tag:]
	for i := 2; i < 5; i++ {
		parts[i] = base64.RawURLEncoding.EncodeToString(decoded[i])
	}
	token, err := gojose.ParseEncryptedCompact(strings.Join(parts, "."), []gojose.KeyAlgorithm{gojose.DIRECT}, []gojose.ContentEncryption{gojose.ContentEncryption(key.enc)})
	if err != nil {
		return nil, false
	}
	payload, err := token.Decrypt(key.bytes)
	return payload, err == nil
}

// FuzzDecrypt changes one character of one segment of a token, and truncates
// the segment.
func FuzzDecrypt(f *testing.F) {
	d, encrypt := newKeys(f)
	for segment := range byte(5) {
		f.Add([]byte(`{"sub":"ada"}`), segment, uint16(3), byte('A'), uint16(0))
		f.Add([]byte(`{"sub":"ada"}`), segment, uint16(0), byte(0), uint16(1))
		f.Add(bytes.Repeat([]byte("x"), 32), segment, uint16(0), byte('!'), uint16(4))
	}
	f.Add([]byte{}, byte(5), uint16(0), byte(0), uint16(0))
	f.Fuzz(func(t *testing.T, payload []byte, segment byte, at uint16, character byte, cut uint16) {
		for salt, seal := range encrypt {
			parts := strings.Split(seal(payload), ".")
			if part := []byte(parts[segment%5]); len(part) > 0 {
				if character != 0 {
					part[int(at)%len(part)] = character
				}
				parts[segment%5] = string(part[:len(part)-int(cut)%(len(part)+1)])
			}
			text := strings.Join(parts, ".")
			got, opens := d.decrypt(salt, text)
			want, wants := goJoseDecrypts(d, salt, text)
			if opens != wants || !bytes.Equal(got, want) {
				t.Errorf("%q: %q, %t; go-jose: %q, %t", text, got, opens, want, wants)
			}
		}
	})
}

func TestATokenThatWasAlteredIsNotOpened(t *testing.T) {
	d, encrypt := newKeys(t)
	payload := []byte(`{"sub":"ada","name":"a name of some length"}`)
	for salt, seal := range encrypt {
		parts := strings.Split(seal(payload), ".")
		if got, ok := d.decrypt(salt, strings.Join(parts, ".")); !ok || !bytes.Equal(got, payload) {
			t.Fatalf("%s: %q, %t", salt, got, ok)
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
				if got, ok := d.decrypt(salt, strings.Join(altered, ".")); ok {
					t.Errorf("%s: with %s of the %s: %q", salt, what, name, got)
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
			if _, ok := d.decrypt(salt, text); ok {
				t.Errorf("%q is opened", text)
			}
		}
	}
}

// Web Crypto takes the content and the tag in one piece, so the libraries that
// use it accept a token wherever the two are split.
func TestWhereTheTagBeginsDoesNotCount(t *testing.T) {
	d, encrypt := newKeys(t)
	for salt, seal := range encrypt {
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
			if got, ok := d.decrypt(salt, strings.Join(parts, ".")); !ok || string(got) != `{"sub":"ada"}` {
				t.Errorf("%s: cut after %d of %d: %q, %t", salt, n, len(sealed), got, ok)
			}
		}
	}
}

func TestDerivedKeysAndThumbprints(t *testing.T) {
	text, err := os.ReadFile("../session/testdata/authjs.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		DerivedKeys []struct {
			Version, Enc, Secret, Salt, Info string
			KeyHex                           string `json:"key_hex"`
			Kid                              string
		} `json:"derived_keys"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors.DerivedKeys) == 0 {
		t.Fatal("no derived keys")
	}
	for _, k := range vectors.DerivedKeys {
		d, err := NewDecrypter([]string{k.Secret}, []string{k.Salt})
		if err != nil {
			t.Fatal(err)
		}
		candidates := d.v5[k.Salt]
		if k.Version == "v4" && k.Salt == "" {
			candidates = d.v4
		} else if k.Version == "v4" {
			continue // of state cookies
		}
		found := false
		for _, key := range candidates {
			if k.Enc != "" && key.enc != k.Enc {
				continue
			}
			found = true
			if got := hex.EncodeToString(key.bytes); got != k.KeyHex {
				t.Errorf("%s %s: key %s, want %s", k.Info, k.Enc, got, k.KeyHex)
			}
			if k.Kid != "" && key.id != k.Kid {
				t.Errorf("%s %s: kid %s, want %s", k.Info, k.Enc, key.id, k.Kid)
			}
		}
		if !found {
			t.Errorf("no key for %s %s", k.Info, k.Enc)
		}
	}
}
