package fsm

import "unicode/utf8"

// Texts of the manager's records are cut, not refused: a verdict must not be lost because its reason is long.
const (
	MaxReason   = 1 << 10 // bytes of a reason or detail
	MaxEvidence = 4 << 10 // bytes of an evidence
	maxName     = 256     // bytes of a name: who asked, which agent, which user
)

const cutMark = "…"

// cut shortens s to at most limit bytes, between two characters, and marks that it did.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	if limit < len(cutMark) {
		return ""
	}
	end := limit - len(cutMark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + cutMark
}
