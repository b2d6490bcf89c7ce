package ipmi

import (
	"crypto/aes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"
)

// suite is a cipher suite: how both sides prove that they know the secret, and what protects packets afterwards.
type suite struct {
	id        int
	auth      types.AuthAlg
	integrity types.IntegrityAlg
	crypt     types.CryptAlg
	codeLen   int // bytes of a packet's authentication code
}

// suites are those that protect every answer. Suites without integrity, and those on MD5, are left out on purpose.
var suites = map[int]suite{
	3:  {3, types.AuthAlg_HMAC_SHA1, types.IntegrityAlg_HMAC_SHA1_96, types.CryptAlg_AES_CBC_128, 12},
	17: {17, types.AuthAlg_HMAC_SHA256, types.IntegrityAlg_HMAC_SHA256_128, types.CryptAlg_AES_CBC_128, 16},
}

// keys protect the packets of one session.
type keys struct {
	suite  suite
	k1, k2 []byte
}

// code is the authentication code of a packet's signed part.
func (k *keys) code(signed []byte) ([]byte, error) {
	code, err := crypto.SessionIntegrityAuthCode(k.suite.integrity, signed, k.k1, "")
	if err != nil || len(code) != k.suite.codeLen {
		return nil, fmt.Errorf("making an authentication code of %d bytes: %w", len(code), err)
	}
	return code, nil
}

// encrypt protects a payload.
func (k *keys) encrypt(plain []byte) ([]byte, error) {
	iv := make([]byte, aes.BlockSize)
	_, _ = rand.Read(iv) // never fails
	sealed, err := crypto.EncryptAESPayload(plain, k.k2, iv)
	if err != nil {
		return nil, fmt.Errorf("encrypting a request: %w", err)
	}
	return sealed, nil
}

var errCiphertext = errors.New("the encrypted part has a wrong size or padding")

// decrypt opens a payload whose authentication code was checked before.
func (k *keys) decrypt(sealed []byte) ([]byte, error) {
	if len(sealed) < 2*aes.BlockSize || len(sealed)%aes.BlockSize != 0 {
		return nil, errCiphertext
	}
	plain, err := crypto.DecryptAESPayload(sealed, k.k2)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCiphertext, err)
	}
	return plain, nil
}
