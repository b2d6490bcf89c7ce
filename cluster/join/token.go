package join

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	tokenIDBytes = 6
	secretBytes  = 32
	hashBytes    = sha256.Size
)

// ErrTokenMalformed means that a text is not a token at all.
var ErrTokenMalformed error = &codedError{"token_malformed", "not a token: it must be id.secret.hash, as 'holdfast operator token create' printed it"}

type codedError struct{ code, text string }

func (e *codedError) Error() string     { return e.text }
func (e *codedError) ErrorCode() string { return e.code }

// Token is what an operator carries to the new host, or an API client shows.
type Token struct {
	ID     string
	Secret string
	CAHash string // hex SHA-256 of the CA's certificate
}

// NewToken makes a token for the cluster of this CA.
func NewToken(caHash string) (Token, error) {
	var id [tokenIDBytes]byte
	var secret [secretBytes]byte
	if _, err := rand.Read(id[:]); err != nil {
		return Token{}, fmt.Errorf("making a token: %w", err)
	}
	if _, err := rand.Read(secret[:]); err != nil {
		return Token{}, fmt.Errorf("making a token: %w", err)
	}
	return Token{hex.EncodeToString(id[:]), base64.RawURLEncoding.EncodeToString(secret[:]), caHash}, nil
}

// ParseToken reads a token.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 3 {
		return Token{}, ErrTokenMalformed
	}
	t := Token{parts[0], parts[1], parts[2]}
	id, err1 := hex.DecodeString(t.ID)
	secret, err2 := base64.RawURLEncoding.DecodeString(t.Secret)
	hash, err3 := hex.DecodeString(t.CAHash)
	if errors.Join(err1, err2, err3) != nil || len(id) != tokenIDBytes || len(secret) != secretBytes || len(hash) != hashBytes {
		return Token{}, ErrTokenMalformed
	}
	return t, nil
}

// String is the token as an operator carries it.
func (t Token) String() string { return t.ID + "." + t.Secret + "." + t.CAHash }

// HashSecret is how the cluster remembers a secret: hex SHA-256. The secret has 256 random bits, so no salt is needed.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// SecretMatches compares a secret with a remembered hash in constant time.
func SecretMatches(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(HashSecret(secret)), []byte(hash)) == 1
}

// macContext keeps the MAC of a join request apart from any other use of the secret.
const macContext = "holdfast join request v1\x00"

// requestMAC proves knowledge of the secret for this very certificate request. Its key is the remembered hash of the
// secret, so that the member can check it and the secret itself need not travel.
func requestMAC(secretHash string, csr []byte) []byte {
	m := hmac.New(sha256.New, []byte(secretHash))
	m.Write([]byte(macContext))
	m.Write(csr)
	return m.Sum(nil)
}
