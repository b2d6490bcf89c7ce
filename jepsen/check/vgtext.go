package check

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// extents is who has which extent of the LUN by one text of the volume group.
type extents struct {
	size  int64 // of an extent, in bytes
	first int64 // byte at which the first one lies
	owner map[int64]string
	twice []string // extents with two owners
}

// at is who has the extent of a byte; empty: nobody.
func (x *extents) at(off int64) string {
	if off < x.first {
		return ""
	}
	return x.owner[(off-x.first)/x.size]
}

// parseVG reads a text of a volume group on one LUN with linear volumes. It goes by lines, as the texts are made, and shares nothing with
// the program's parser.
func parseVG(text string) (*extents, error) {
	x := &extents{owner: map[int64]string{}}
	var path []string
	var count int64
	inStripes := false
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		line = strings.TrimSpace(strings.Split(line, "\t#")[0])
		key, value, isValue := strings.Cut(line, " = ")
		switch {
		case inStripes && line == "]":
			inStripes = false
		case inStripes:
			_, from, _ := strings.Cut(line, ", ")
			n, err := strconv.ParseInt(strings.TrimSpace(from), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("the place of a segment, %q: %w", line, err)
			}
			x.give(path[len(path)-2], n, count)
		case strings.HasSuffix(line, "{"):
			path = append(path, strings.TrimSpace(strings.TrimSuffix(line, "{")))
		case line == "}" && len(path) > 0:
			path = path[:len(path)-1]
		case strings.HasPrefix(line, "stripes = ["):
			inStripes = !strings.HasSuffix(line, "]")
			if !inStripes {
				return nil, fmt.Errorf("stripes in one line: %q", line)
			}
		case isValue:
			n, err := strconv.ParseInt(value, 10, 64)
			switch {
			case err != nil:
			case key == "extent_size" && len(path) == 1:
				x.size = n * sectorSize
			case key == "pe_start":
				x.first = n * sectorSize
			case key == "extent_count":
				count = n
			}
		}
	}
	if x.size <= 0 || x.first <= 0 || len(path) > 0 {
		return nil, errors.New("the text does not say how large extents are, or where they begin, or has no end")
	}
	return x, nil
}

// give notes a run of extents.
func (x *extents) give(lv string, from, count int64) {
	for i := from; i < from+count; i++ {
		if was, ok := x.owner[i]; ok {
			x.twice = append(x.twice, fmt.Sprintf("extent %d is of %s and of %s", i, was, lv))
		}
		x.owner[i] = lv
	}
}

// ring is a metadata area as the writes have made it.
type ring struct {
	size    int64
	sectors map[int64][]byte
}

// put takes in the bytes of a write; those that the record did not keep make their sectors unknown.
func (g *ring) put(off int64, b []byte, n int64) {
	for i := int64(0); i < n; i += sectorSize {
		if i+sectorSize <= int64(len(b)) {
			g.sectors[(off+i)/sectorSize] = b[i : i+sectorSize]
		} else {
			delete(g.sectors, (off+i)/sectorSize)
		}
	}
}

// text reads what a header says is committed.
func (g *ring) text(start int64, key textKey) (string, bool) {
	var b []byte
	for at := start; int64(len(b)) < key.size; at += sectorSize {
		if at >= g.size {
			at = sectorSize // the ring begins behind the header
		}
		s, ok := g.sectors[at/sectorSize]
		if !ok || at%sectorSize != 0 {
			return "", false
		}
		b = append(b, s...)
	}
	b = b[:key.size]
	return string(bytes.TrimRight(b, "\x00")), lvmSum(b) == key.sum
}

// allBytes are those of a piece of a write, as far as they were kept.
func allBytes(e history.Entry, p piece) []byte {
	b, err := e.Bytes()
	if err != nil || int64(len(b)) < p.skip {
		return nil
	}
	return b[p.skip:min(int64(len(b)), p.skip+p.len)]
}
