package join

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// ErrSealed says that a sealed secret cannot be opened: it was sealed for another purpose, name or cluster, or it was changed.
var ErrSealed = errors.New("the sealed secret cannot be opened: it belongs to another cluster or device, or is damaged; set it again")

// Box seals secrets for the replicated state, with a key that every member of the cluster has and nobody else: it comes from the
// CA's private key. What is sealed may go into logs of Raft, snapshots and backups.
//
// A sealed secret is a version byte (1), a random nonce of 12 bytes, and AES-256-GCM's output. Its name is authenticated with it, so
// that one device's secret cannot be passed off as another's.
type Box struct{ aead cipher.AEAD }

const (
	sealVersion = 1
	sealKeySize = 32
)

// Box makes the box for one purpose; those of different purposes do not open each other's secrets.
func (c *CA) Box(purpose string) (*Box, error) {
	secret, err := c.key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's key: %w", err)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "holdfast seal v1: "+purpose, sealKeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving the key for %s: %w", purpose, err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("deriving the key for %s: %w", purpose, err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("deriving the key for %s: %w", purpose, err)
	}
	return &Box{aead}, nil
}

// Seal hides a secret under a name.
func (b *Box) Seal(name string, secret []byte) ([]byte, error) {
	out := make([]byte, 1+b.aead.NonceSize(), 1+b.aead.NonceSize()+len(secret)+b.aead.Overhead())
	out[0] = sealVersion
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, fmt.Errorf("sealing a secret: %w", err)
	}
	return b.aead.Seal(out, out[1:], secret, []byte(name)), nil
}

// Open returns the secret that was sealed under the name.
func (b *Box) Open(name string, sealed []byte) ([]byte, error) {
	n := 1 + b.aead.NonceSize()
	if len(sealed) < n || sealed[0] != sealVersion {
		return nil, fmt.Errorf("secret of %s: %w", name, ErrSealed)
	}
	secret, err := b.aead.Open(nil, sealed[1:n], sealed[n:], []byte(name))
	if err != nil {
		return nil, fmt.Errorf("secret of %s: %w", name, ErrSealed)
	}
	return secret, nil
}
