package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"errors"
)

// How the content of tokens is encrypted (RFC 7518, section 5.1).
const (
	a256GCM       = "A256GCM"
	a256CBCHS512  = "A256CBC-HS512"
	bytesGCM      = 32 // of a key
	bytesCBC      = 64
	cbcTagBytes   = 32
	cbcNonceBytes = aes.BlockSize
)

// aead opens what is encrypted with one key. It is the half of cipher.AEAD
// that is needed here.
type aead interface {
	NonceSize() int
	Open(dst, nonce, sealed, data []byte) ([]byte, error)
}

// newAEAD returns what opens tokens that are encrypted with a key.
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
	mac   []byte // the key of the tag
	block cipher.Block
}

var errSealed = errors.New("the content of the token is not encrypted with this key")

// NonceSize returns the length of the initialization vector.
func (cbcHMAC) NonceSize() int { return cbcNonceBytes }

// Open checks the tag at the end of what is sealed, and decrypts what is before
// it only when that is right: else how it fails would tell of the content.
func (c cbcHMAC) Open(dst, nonce, sealed, data []byte) ([]byte, error) {
	n := len(sealed) - cbcTagBytes
	if n < aes.BlockSize || n%aes.BlockSize != 0 {
		return nil, errSealed
	}
	content, tag := sealed[:n], sealed[n:]
	mac := hmac.New(sha512.New, c.mac)
	for _, part := range [][]byte{data, nonce, content, binary.BigEndian.AppendUint64(nil, uint64(len(data))*8)} {
		mac.Write(part)
	}
	var sum [sha512.Size]byte
	if !hmac.Equal(mac.Sum(sum[:0])[:cbcTagBytes], tag) {
		return nil, errSealed
	}
	at := len(dst)
	dst = append(dst, content...)
	cipher.NewCBCDecrypter(c.block, nonce).CryptBlocks(dst[at:], dst[at:])
	padding := int(dst[len(dst)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, errSealed
	}
	for _, b := range dst[len(dst)-padding:] {
		if int(b) != padding {
			return nil, errSealed
		}
	}
	return dst[:len(dst)-padding], nil
}
