package jose

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// ParsePublicKeys parses the public keys and certificates of a PEM file, at
// least one. A private key, or anything else, is an error.
func ParsePublicKeys(file []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			break
		}
		key, err := parsePublicKey(block)
		if err != nil {
			return nil, err
		}
		if len(algorithmsOf(key)) == 0 {
			return nil, unsupportedKey(key)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New(`no public key found: the file must be PEM, with "BEGIN PUBLIC KEY", "BEGIN RSA PUBLIC KEY" or "BEGIN CERTIFICATE"; a shared secret belongs in the option secret`)
	}
	return keys, nil
}

func parsePublicKey(block *pem.Block) (crypto.PublicKey, error) {
	switch {
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, errors.New("the file holds a private key, which must not leave the app: extract the public key with `openssl pkey -in key.pem -pubout`")
	case block.Type == "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	case block.Type == "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	}
	return nil, fmt.Errorf("the file holds a PEM block %q, which is not a public key", block.Type)
}
