package domain

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	tagReady   = "RHAT_storage_domain"
	tagUnready = "RHAT_storage_domain_UNREADY"
	tagKey     = "MDT_"
)

// encodeTag turns a line into what LVM allows in a tag: every other character becomes &<decimal code point>&.
func encodeTag(line string) string {
	var b strings.Builder
	for _, r := range line {
		if plainInTag(r) {
			b.WriteRune(r)
			continue
		}
		b.WriteByte('&')
		b.WriteString(strconv.Itoa(int(r)))
		b.WriteByte('&')
	}
	return b.String()
}

func plainInTag(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return true
	}
	return r < utf8.RuneSelf && strings.ContainsRune("_+.-/=!:#", r)
}

// decodeTag undoes encodeTag in one pass from left to right: what an escape yields is never read as part of another.
// An escape that is no code point stays as it is.
func decodeTag(tag string) string {
	var b strings.Builder
	for len(tag) > 0 {
		i := strings.IndexByte(tag, '&')
		if i < 0 {
			break
		}
		b.WriteString(tag[:i])
		tag = tag[i:]
		r, n := escape(tag)
		if n == 0 {
			b.WriteByte('&')
			tag = tag[1:]
			continue
		}
		b.WriteRune(r)
		tag = tag[n:]
	}
	b.WriteString(tag)
	return b.String()
}

// escape reads &digits& at the start of s and returns the character and the length of the escape, 0 if it is none.
func escape(s string) (r rune, n int) {
	end := 1
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	if end == 1 || end >= len(s) || s[end] != '&' {
		return 0, 0
	}
	v, err := strconv.ParseUint(s[1:end], 10, 32)
	if err != nil || v > utf8.MaxRune || !utf8.ValidRune(rune(v)) {
		return 0, 0
	}
	return rune(v), end + 1
}
