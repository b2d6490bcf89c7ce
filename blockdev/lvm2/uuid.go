package lvm2

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
)

// idChars are the characters of new ids; old ones may also have '!' and '#'.
const idChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// idLen is the length of an id without hyphens.
const idLen = 32

// idGroups are the lengths of the hyphenated groups.
var idGroups = [...]int{6, 4, 4, 4, 4, 4, 6}

// NewID makes a random id in hyphenated form.
func NewID() string {
	var raw [idLen]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	for i, b := range raw {
		raw[i] = idChars[int(b)%len(idChars)]
	}
	return formatID(string(raw[:]))
}

// idMark is the length of the end of a physical volume's id that says for which group it was made.
const idMark = 10

// newPVID makes an id for a further physical volume of a group. It is random but for its end, which follows from the group and the
// rest: so a device that was labelled for a group, and never came to be part of it, is known for what it is.
func newPVID(group string) string {
	raw, _ := rawID(NewID()) // is valid
	return formatID(raw[:idLen-idMark] + pvMark(group, raw[:idLen-idMark]))
}

// pvMark is the end of an id that begins so.
func pvMark(group, begin string) string {
	sum := sha256.Sum256([]byte("physical volume " + begin + " for volume group " + group))
	mark := make([]byte, idMark)
	for i := range mark {
		mark[i] = idChars[int(sum[i])%len(idChars)]
	}
	return string(mark)
}

// madeFor tells whether newPVID made the id for the group.
func madeFor(group, id string) bool {
	raw, err := rawID(id)
	return err == nil && raw[idLen-idMark:] == pvMark(group, raw[:idLen-idMark])
}

// formatID puts the hyphens into 32 characters.
func formatID(raw string) string {
	var b strings.Builder
	for i, n := range idGroups {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(raw[:n])
		raw = raw[n:]
	}
	return b.String()
}

// rawID removes the hyphens and checks the rest.
func rawID(id string) (string, error) {
	raw := strings.ReplaceAll(id, "-", "")
	if len(raw) != idLen {
		return "", fmt.Errorf("%w: id %q needs 32 characters besides hyphens", ErrInvalid, id)
	}
	for i := range len(raw) {
		if c := raw[i]; !isAlnum(c) && c != '!' && c != '#' {
			return "", fmt.Errorf("%w: id %q has a character that is not allowed", ErrInvalid, id)
		}
	}
	return raw, nil
}

// canonicalID accepts an id with or without hyphens and returns the hyphenated form.
func canonicalID(id string) (string, error) {
	raw, err := rawID(id)
	if err != nil {
		return "", err
	}
	return formatID(raw), nil
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
