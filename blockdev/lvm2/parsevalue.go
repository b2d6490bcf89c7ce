package lvm2

import (
	"fmt"
	"math"
	"strings"
)

// parseID reads an id, with or without hyphens.
func parseID(raw string) (string, error) {
	s, err := parseString(raw)
	if err != nil {
		return "", err
	}
	if len(s) == idLen+len(idGroups)-1 && s[6] == '-' && strings.Count(s, "-") == len(idGroups)-1 {
		if _, err := rawID(s); err == nil && formatted(s) {
			return s, nil
		}
	}
	return canonicalID(s)
}

// formatted is true when the hyphens are where lvm2 puts them.
func formatted(s string) bool {
	return s[11] == '-' && s[16] == '-' && s[21] == '-' && s[26] == '-' && s[31] == '-'
}

// parseRange reads an integer between low and high.
func parseRange(raw string, low, high int64) (int64, error) {
	n, err := parseInt(raw)
	if err != nil {
		return 0, err
	}
	if n < low || n > high {
		return 0, fmt.Errorf("%d is not between %d and %d", n, low, high)
	}
	return n, nil
}

// parseSectors reads a number of sectors and returns bytes.
func parseSectors(raw string) (int64, error) {
	n, err := parseRange(raw, 0, math.MaxInt64/sector/2)
	return n * sector, err
}
