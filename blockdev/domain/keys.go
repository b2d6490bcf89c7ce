package domain

import (
	"crypto/sha1" // the format's checksum, not a safeguard against an adversary
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const keyChecksum = "_SHA_CKSUM"

// Keys are the keys of a domain and of its pool, unknown ones included, without the checksum.
type Keys map[string]string

// parseKeys reads KEY=VALUE lines. Lines without an equals sign are no keys. sum is the recorded checksum, and sealed
// tells whether there was one.
func parseKeys(lines []string) (keys Keys, sum string, sealed bool) {
	keys = Keys{}
	for _, l := range lines {
		k, v, ok := strings.Cut(l, "=")
		if !ok {
			continue
		}
		k = strings.TrimSpace(k)
		if k == keyChecksum {
			sum, sealed = v, true
			continue
		}
		keys[k] = v
	}
	return keys, sum, sealed
}

// keysOfTags reads the keys out of a VG's tags and verifies the checksum. An absent one is accepted, as VDSM has it.
// The keys are returned with ErrSealBroken too.
func keysOfTags(tags []string) (Keys, error) {
	var lines []string
	for _, t := range tags {
		if enc, ok := strings.CutPrefix(t, tagKey); ok {
			lines = append(lines, decodeTag(enc))
		}
	}
	keys, sum, sealed := parseKeys(lines)
	if sealed && sum != keys.checksum() {
		return keys, fmt.Errorf("recorded %.40q, computed %s: %w", sum, keys.checksum(), ErrSealBroken)
	}
	return keys, nil
}

// tags are the keys as VG tags, sorted by key, the checksum last.
func (k Keys) tags() []string {
	lines := k.lines()
	for i, l := range lines {
		lines[i] = tagKey + encodeTag(l)
	}
	return lines
}

// changes are the tags to add to those of a VG and to remove from them, so that they are the keys.
func (k Keys) changes(have []string) (add, del []string) {
	want := k.tags()
	for _, t := range have {
		if strings.HasPrefix(t, tagKey) && !slices.Contains(want, t) {
			del = append(del, t)
		}
	}
	for _, t := range want {
		if !slices.Contains(have, t) {
			add = append(add, t)
		}
	}
	return add, del
}

// lines are the keys as KEY=VALUE, sorted by key, the checksum last.
func (k Keys) lines() []string {
	lines := make([]string, 0, len(k)+1)
	for _, key := range slices.Sorted(maps.Keys(k)) {
		lines = append(lines, key+"="+k[key])
	}
	return append(lines, keyChecksum+"="+k.checksum())
}

// checksum is the SHA-1 of all key=value in the order of keys without separators, characters beyond ASCII written as
// decimal character references.
func (k Keys) checksum() string {
	h := sha1.New()
	for _, key := range slices.Sorted(maps.Keys(k)) {
		h.Write(charRefs(key + "=" + k[key]))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func charRefs(s string) []byte {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		if r < utf8.RuneSelf {
			out = append(out, byte(r))
			continue
		}
		out = append(out, "&#"...)
		out = strconv.AppendInt(out, int64(r), 10)
		out = append(out, ';')
	}
	return out
}

// number reads a decimal key.
func (k Keys) number(key string) (int64, error) {
	v, ok := k[key]
	if !ok {
		return 0, fmt.Errorf("key %s is missing: %w", key, ErrBadKeys)
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("key %s is %q, not a number: %w", key, v, ErrBadKeys)
	}
	return n, nil
}
