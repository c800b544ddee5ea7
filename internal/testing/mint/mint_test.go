package mint

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// The keys and the thumbprint that the real libraries derive from a secret.
const (
	secret = "kx3m0Vt7b2y9QmXn5o1Zr8uLwE4sJfGcHdPaTiNvYqA="
	keyV4  = "9fac87c7791a55bc0ef177ebeec1eaa694e1049077962ac98a5c515e7f06712f"
	keyV5  = "8cda591bf2a0033b73364f943a49fcc8ed4175f55a134f542a2694ffc94e6e57514ee69157c49e46724c128a44171bf28d7f00a53ad80a7e6f836e9831513a2f"
	kidV5  = "yJDwE2uPqPZ68pXHlkNFVyoxcDjtAGbBXlHO-DEXKRq_Spsbyv0FbsacCSB1X1wieYl6z93ojfetryfPrm2wNg"
)

func TestTokensDecryptWithTheKeysOfTheRealLibraries(t *testing.T) {
	claims := map[string]any{"sub": "1", "iat": 5, "jti": nil}
	four, err := V4(secret, claims)
	if err != nil {
		t.Fatal(err)
	}
	five, err := V5(secret, "authjs.session-token", claims)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ token, key, kid string }{"v4": {four, keyV4, ""}, "v5": {five, keyV5, kidV5}} {
		token, err := jose.ParseEncryptedCompact(c.token, []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM, jose.A256CBC_HS512})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		key, err := hex.DecodeString(c.key)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := token.Decrypt(key)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got map[string]any
		if err := json.Unmarshal(payload, &got); err != nil {
			t.Fatal(err)
		}
		if got["sub"] != "1" || got["iat"] != 5.0 || got["exp"] == nil || token.Header.KeyID != c.kid {
			t.Errorf("%s: %v, kid %q", name, got, token.Header.KeyID)
		}
		if _, present := got["jti"]; present {
			t.Errorf("%s: a nil claim is in the token: %v", name, got)
		}
	}
}

func TestChunks(t *testing.T) {
	for length, want := range map[int]int{1: 1, ChunkV4: 1, ChunkV4 + 1: 2, 3 * ChunkV4: 3} {
		token := strings.Repeat("x", length)
		cookies := Chunk("s", token, ChunkV4)
		joined := ""
		for _, cookie := range cookies {
			joined += cookie.Value
		}
		if len(cookies) != want || joined != token || (cookies[0].Name == "s") != (want == 1) {
			t.Errorf("%d characters: %d cookies, the first named %s", length, len(cookies), cookies[0].Name)
		}
	}
}
