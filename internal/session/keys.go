package session

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// ParsePublicKeys reads the public keys and certificates of a PEM file. A
// private key in it is an error.
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
			return nil, fmt.Errorf("a public key of type %T cannot verify tokens; RSA, EC P-256, P-384, P-521 and Ed25519 can", key)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New(`no public key in it: it must be PEM, with "BEGIN PUBLIC KEY", "BEGIN RSA PUBLIC KEY" or "BEGIN CERTIFICATE"; a shared secret belongs into the option secret`)
	}
	return keys, nil
}

func parsePublicKey(block *pem.Block) (crypto.PublicKey, error) {
	switch {
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, errors.New("a private key is in it, which must not leave the app: make the public one with `openssl pkey -in key.pem -pubout`")
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
	return nil, fmt.Errorf("a PEM block %q is in it, which is no public key", block.Type)
}
