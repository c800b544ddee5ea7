package jose

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// Only the holder of the key can make a ciphertext whose tag is right and whose
// padding is wrong. It is refused all the same.
func TestContentThatIsPaddedWrongly(t *testing.T) {
	key := bytes.Repeat([]byte{7}, cbcKeyBytes)
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
