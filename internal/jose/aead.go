package jose

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"errors"
)

// Content encryption algorithms (RFC 7518, section 5.1), and their sizes.
const (
	a256GCM       = "A256GCM"
	a256CBCHS512  = "A256CBC-HS512"
	gcmKeyBytes   = 32
	gcmTagBytes   = 16
	cbcKeyBytes   = 64
	cbcTagBytes   = 32
	cbcNonceBytes = aes.BlockSize
)

// aead is the half of cipher.AEAD that decrypts.
type aead interface {
	NonceSize() int
	Open(dst, nonce, ciphertext, additionalData []byte) ([]byte, error)
}

func newAEAD(enc string, key []byte) (aead, error) {
	if enc == a256CBCHS512 {
		block, err := aes.NewCipher(key[cbcTagBytes:])
		return cbcHMAC{mac: key[:cbcTagBytes], block: block}, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// cbcHMAC is A256CBC-HS512 (RFC 7518, sections 5.2.2.2 and 5.2.5).
type cbcHMAC struct {
	mac   []byte // the HMAC key
	block cipher.Block
}

var errAuthentication = errors.New("message authentication failed")

// NonceSize returns the size of the initialization vector.
func (cbcHMAC) NonceSize() int { return cbcNonceBytes }

// Open decrypts a ciphertext, at whose end is the authentication tag. The tag
// is checked before anything is decrypted: otherwise the errors would be a
// padding oracle.
func (c cbcHMAC) Open(dst, nonce, ciphertext, additionalData []byte) ([]byte, error) {
	n := len(ciphertext) - cbcTagBytes
	if n < aes.BlockSize || n%aes.BlockSize != 0 {
		return nil, errAuthentication
	}
	content, tag := ciphertext[:n], ciphertext[n:]
	mac := hmac.New(sha512.New, c.mac)
	for _, part := range [][]byte{additionalData, nonce, content, binary.BigEndian.AppendUint64(nil, uint64(len(additionalData))*8)} {
		mac.Write(part)
	}
	var sum [sha512.Size]byte
	if !hmac.Equal(mac.Sum(sum[:0])[:cbcTagBytes], tag) {
		return nil, errAuthentication
	}
	start := len(dst)
	dst = append(dst, content...)
	cipher.NewCBCDecrypter(c.block, nonce).CryptBlocks(dst[start:], dst[start:])
	padding := int(dst[len(dst)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, errAuthentication
	}
	for _, b := range dst[len(dst)-padding:] {
		if int(b) != padding {
			return nil, errAuthentication
		}
	}
	return dst[:len(dst)-padding], nil
}
