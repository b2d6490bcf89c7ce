package check

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// LayoutFile has what lies where on the LUN, as the real lvm2 said at the end of the run.
const LayoutFile = "layout.json"

// Layout is what lies where on the LUN.
type Layout struct {
	VG    string `json:"vg"`
	Areas []Area `json:"areas"` // the label, metadata areas and special volumes; sorted, they do not overlap
	Texts []Text `json:"texts"` // the volume group's texts that are still in its rings, old and new
}

// Area is a piece of the LUN that has a meaning of its own.
type Area struct {
	Name string `json:"name"` // label, mda, or the name of a special volume
	Off  int64  `json:"off"`  // on the LUN
	Len  int64  `json:"len"`
	At   int64  `json:"at,omitempty"` // of its first byte in its volume, when that has several segments
}

// Text is one state of the volume group.
type Text struct {
	Size  int64  `json:"size"`
	Sum   uint32 `json:"sum"`
	Seqno uint64 `json:"seqno"`
}

// The areas that are no volumes.
const (
	areaLabel = "label"
	areaMDA   = "mda"
)

// specialLVs are the volumes that a domain has besides its disks.
var specialLVs = []string{"ids", "inbox", "leases", "master", "metadata", "outbox", "xleases"}

// LoadLayout reads the layout of a run.
func LoadLayout(folder string) (Layout, error) {
	var l Layout
	if err := readJSON(folder, LayoutFile, &l); err != nil {
		return l, fmt.Errorf("%w; the judges write it", err)
	}
	if len(l.Areas) == 0 {
		return l, fmt.Errorf("%s names no area", LayoutFile)
	}
	slices.SortFunc(l.Areas, func(a, b Area) int { return int(min(max(a.Off-b.Off, -1), 1)) })
	return l, nil
}

// piece is the part of a write that fell into one area.
type piece struct {
	area Area
	off  int64 // in the area's volume, or in the area
	len  int64
	skip int64 // bytes of the write before it
}

// cut finds the pieces of [off, off+n). What belongs to no area, the data of disks, is left out.
func (l Layout) cut(off, n int64) []piece {
	var out []piece
	i, _ := slices.BinarySearchFunc(l.Areas, off, func(a Area, off int64) int {
		if a.Off+a.Len <= off {
			return -1
		}
		return 1
	})
	for ; i < len(l.Areas) && l.Areas[i].Off < off+n; i++ {
		a := l.Areas[i]
		from, to := max(off, a.Off), min(off+n, a.Off+a.Len)
		out = append(out, piece{area: a, off: from - a.Off + a.At, len: to - from, skip: from - off})
	}
	return out
}

// readJSON reads one value from a file of a run.
func readJSON(folder, name string, v any) error {
	b, err := os.ReadFile(filepath.Join(folder, name))
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("reading %s of the run: %w", name, err)
	}
	return nil
}

// writeJSON writes one value to a file of a run.
func writeJSON(folder, name string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing %s of the run: %w", name, err)
	}
	return nil
}
