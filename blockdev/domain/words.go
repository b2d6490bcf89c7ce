package domain

import (
	"fmt"
	"strings"
)

// The words on disk are upper case and partly other words than ours.

func formatWord(s string) string {
	switch s {
	case "RAW":
		return FormatRaw
	case "COW":
		return FormatQcow2
	}
	return strings.ToLower(s)
}

func upper(s string) string { return strings.ToUpper(s) }

func lower(s string) string { return strings.ToLower(s) }

func formatOnDisk(format string) string {
	if format == FormatQcow2 {
		return "COW"
	}
	return "RAW"
}

func legalityOnDisk(illegal bool) string {
	if illegal {
		return "ILLEGAL"
	}
	return "LEGAL"
}

// checkWords refuses metadata whose enumerations this package does not know: a volume it would judge wrongly.
func (m *slotMeta) checkWords() error {
	for _, e := range [...]struct{ key, value, known string }{
		{"FORMAT", m.format, "RAW COW"},
		{"TYPE", m.alloc, "SPARSE PREALLOCATED"},
		{"LEGALITY", m.legality, "LEGAL ILLEGAL FAKE"},
		{"VOLTYPE", m.volType, "LEAF INTERNAL SHARED"},
	} {
		if e.value == "" || !strings.Contains(" "+e.known+" ", " "+e.value+" ") {
			return fmt.Errorf("%s is %.40q: %w", e.key, e.value, ErrSlotCorrupt)
		}
	}
	return nil
}
