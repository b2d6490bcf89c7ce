package check

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
	"strconv"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Commits judges the commits of the volume group as they landed: each counts the group's seqno up by one, and no metadata area goes
// back to an older text. The texts' numbers are known from the record where it has their bytes, and from the rings at the end.
func Commits(r Record) history.Verdict {
	const name = "commits of the volume group"
	l, err := LoadLayout(r.Folder)
	if err != nil {
		return failed(name, err)
	}
	c := commitCheck{seqno: map[textKey]uint64{}, order: map[textKey]int{}, at: map[int64]textKey{}}
	for _, t := range l.Texts {
		c.seqno[textKey{t.Size, t.Sum}] = t.Seqno
	}
	for _, e := range landed(r.Entries) {
		for _, p := range l.cut(e.Off, e.Len) {
			if p.area.Name == areaMDA {
				c.piece(e, p)
			}
		}
	}
	known := c.count()
	if known < 2 {
		return failed(name, fmt.Errorf("%d of %d commits have a text that can still be read; two are needed at least", known, len(c.list)))
	}
	return c.found.verdict(name, "%d commits landed, seqno %d to %d; %d texts were read", len(c.list), c.first, c.last, known)
}

// textKey tells texts apart as a slot of a metadata area does.
type textKey struct {
	size int64
	sum  uint32
}

// commitCheck goes through the landed writes once.
type commitCheck struct {
	seqno map[textKey]uint64 // where it is known
	list  []commit
	order map[textKey]int   // place in list
	at    map[int64]textKey // what each area says is committed, by its place
	found findings

	first, last uint64
}

type commit struct {
	key  textKey
	what string
}

func (c *commitCheck) piece(e history.Entry, p piece) {
	b := bytesOf(e, p)
	if p.off == 0 {
		c.header(e, p, b)
		return
	}
	if key, n, ok := readText(b); ok {
		c.seqno[key] = n
	}
}

// header takes in a landed header of a metadata area.
func (c *commitCheck) header(e history.Entry, p piece, b []byte) {
	key, err := committed(b)
	switch {
	case e.Kind == lost:
		c.takeBack(p, key)
		return
	case e.Kind != history.Write || allZero(b) && b != nil:
		return // wiped before it is made
	case err != nil:
		c.found.add("%s: the header of a metadata area: %v", tell(e, p), err)
		return
	case key == textKey{}:
		return // made, with nothing committed
	}
	place, seen := c.order[key]
	if !seen {
		place = len(c.list)
		c.order[key] = place
		c.list = append(c.list, commit{key: key, what: tell(e, p)})
	}
	if was, ok := c.at[p.area.Off]; ok && place < c.order[was] {
		c.found.add("a metadata area went back by %d commits: %s", c.order[was]-place, tell(e, p))
		return
	}
	c.at[p.area.Off] = key
}

// takeBack undoes what a power loss undid. Commits that no area has any more did not happen: their numbers are given again.
func (c *commitCheck) takeBack(p piece, key textKey) {
	c.at[p.area.Off] = key
	newest := -1
	for _, k := range c.at {
		if i, ok := c.order[k]; ok {
			newest = max(newest, i)
		}
	}
	for _, m := range c.list[newest+1:] {
		delete(c.order, m.key)
	}
	c.list = c.list[:newest+1]
}

// count compares seqnos with the number of commits between them. It returns how many are known.
func (c *commitCheck) count() (known int) {
	last := -1
	for i, m := range c.list {
		n, ok := c.seqno[m.key]
		if !ok {
			continue
		}
		if known++; last < 0 {
			c.first = n
		} else if was := c.seqno[c.list[last].key]; n != was+uint64(i-last) {
			c.found.add("seqno %d follows %d after %d commits: %s", n, was, i-last, m.what)
		}
		last, c.last = i, n
	}
	return known
}

var mdaMagic = []byte{0x20, 0x4c, 0x56, 0x4d, 0x32, 0x20, 0x78, 0x5b, 0x35, 0x41, 0x25, 0x72, 0x30, 0x4e, 0x2a, 0x3e}

// committed reads which text a header of a metadata area says is committed.
func committed(b []byte) (textKey, error) {
	switch {
	case len(b) < sectorSize:
		return textKey{}, errors.New("the record has not its bytes")
	case !bytes.Equal(b[4:20], mdaMagic) || binary.LittleEndian.Uint32(b) != lvmSum(b[4:sectorSize]):
		return textKey{}, errors.New("wrong magic or sum")
	}
	return textKey{size: int64(binary.LittleEndian.Uint64(b[48:])), sum: binary.LittleEndian.Uint32(b[56:])}, nil
}

// lvmSum is lvm2's running CRC-32: a start value of its own, no inversion at the end.
func lvmSum(b []byte) uint32 { return ^crc32.Update(^uint32(0xf597a6cf), crc32.IEEETable, b) }

var seqnoLine = regexp.MustCompile(`(?m)^\s*seqno = (\d+)$`)

// readText reads a text that lies whole in one write.
func readText(b []byte) (textKey, uint64, bool) {
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return textKey{}, 0, false
	}
	m := seqnoLine.FindSubmatch(b[:end])
	if m == nil {
		return textKey{}, 0, false
	}
	n, err := strconv.ParseUint(string(m[1]), 10, 64)
	return textKey{size: int64(end) + 1, sum: lvmSum(b[:end+1])}, n, err == nil
}
