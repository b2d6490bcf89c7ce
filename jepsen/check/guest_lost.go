package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// LostWrites judges what guests read against what they wrote. Each sector has what was acknowledged and flushed last, or something that
// was written later, flushed or not; never something older, another volume's, or zeroes. What was acknowledged and not flushed may be
// lost with a host's power, and what nobody answered may have landed; but when another host has the volume nothing of that
// lands any more: what is read there first stays. In the end everything is read once more.
func LostWrites(r Record) history.Verdict {
	const name = "lost writes"
	ops := slices.Clone(r.Ops)
	slices.SortStableFunc(ops, func(a, b history.Op) int { return cmp.Compare(a.Call, b.Call) })
	c := lostCheck{volumes: map[string]*guestVolume{}}
	for _, op := range ops {
		if err := c.take(op); err != nil {
			return failed(name, err)
		}
	}
	if c.flushes == 0 || c.blocks == 0 {
		return failed(name, errors.New("no guest flushed anything, or none read anything back: nothing was proved"))
	}
	c.atTheEnd()
	return c.found.verdict(name, "%d writes and %d flushes acknowledged on %d volumes, %d blocks read, %d moves to another host", c.writes, c.flushes, len(c.volumes), c.blocks, c.moves)
}

// lostCheck goes through the guests' operations once. A volume is one guest's, who does one thing after the other.
type lostCheck struct {
	volumes map[string]*guestVolume
	found   findings

	writes, flushes, blocks, moves int
}

// guestVolume is what may be on a volume.
type guestVolume struct {
	blocks  map[int64]*guestBlock
	host    string // of the last attach
	deleted bool   // or may be
}

// guestBlock is what a block may have: the write that is there for sure unless one of the later ones is. The first is number 0, zeroes.
type guestBlock struct {
	may    []guestWrite
	settle bool // what is read next stays
	read   bool // since the last write
}

type guestWrite struct {
	seq   uint64
	acked bool
}

func (c *lostCheck) volume(id string) *guestVolume {
	v := c.volumes[id]
	if v == nil {
		v = &guestVolume{blocks: map[int64]*guestBlock{}}
		c.volumes[id] = v
	}
	return v
}

// take takes in an operation.
func (c *lostCheck) take(op history.Op) error {
	var in history.GuestInput
	var out history.GuestAnswer
	switch op.Kind {
	case history.GuestAttach, history.GuestWrite, history.GuestFlush, history.GuestRead:
		if err := decode(op, &in, &out); err != nil {
			return err
		}
	case history.VolumeDelete:
		var del history.VolumeInput
		if err := decode(op, &del, &struct{}{}); err != nil {
			return err
		}
		if v := c.volumes[del.ID]; v != nil && op.Outcome != history.Failed {
			v.deleted = true
		}
		return nil
	default:
		return nil
	}
	v := c.volume(op.Key)
	switch {
	case op.Kind == history.GuestWrite && op.Outcome == history.Failed:
		v.block(in.Block) // who tried may read it, and must not find what was refused
	case op.Kind == history.GuestWrite:
		c.write(v, in, op.Outcome == history.OK)
	case op.Outcome != history.OK:
	case op.Kind == history.GuestFlush:
		c.flushes++
		v.flush()
	case op.Kind == history.GuestAttach:
		c.attach(v, op.Host)
	case op.Kind == history.GuestRead:
		c.read(op, v, out.Seen)
	}
	return nil
}

// block is a block that somebody writes, or has tried to.
func (v *guestVolume) block(n int64) *guestBlock {
	b := v.blocks[n]
	if b == nil {
		b = &guestBlock{may: []guestWrite{{}}}
		v.blocks[n] = b
	}
	return b
}

func (c *lostCheck) write(v *guestVolume, in history.GuestInput, acked bool) {
	b := v.block(in.Block)
	if acked {
		c.writes++
	}
	b.may, b.read, b.settle = append(b.may, guestWrite{in.Seq, acked}), false, false
}

// flush makes everything older than the last acknowledged write of each block impossible.
func (v *guestVolume) flush() {
	for _, b := range v.blocks {
		for i, w := range slices.Backward(b.may) {
			if w.acked {
				b.may = b.may[i:]
				break
			}
		}
	}
}

// attach is a new life of the volume. The power may have gone: what was not flushed is in doubt, until it is read on a host from which
// nothing of the last life can land any more.
func (c *lostCheck) attach(v *guestVolume, host string) {
	moved := v.host != "" && v.host != host
	if moved {
		c.moves++
	}
	v.host = host
	for _, b := range v.blocks {
		b.read, b.settle = false, moved
		if len(b.may) > 1 {
			for i := range b.may {
				b.may[i].acked = false
			}
		}
	}
}

// read judges blocks that were read.
func (c *lostCheck) read(op history.Op, v *guestVolume, seen []history.BlockSeen) {
	for _, s := range seen {
		c.blocks++
		b := v.blocks[s.Block]
		if b == nil {
			c.found.add("volume %s, block %d, on %s at %s: it was never written and was read", op.Key, s.Block, op.Host, at(op.Call))
			continue
		}
		b.read = true
		if s.Wrong != "" {
			c.found.add("volume %s, block %d, on %s at %s: %s", op.Key, s.Block, op.Host, at(op.Call), s.Wrong)
			continue
		}
		for _, seq := range s.Seqs {
			if !slices.ContainsFunc(b.may, func(w guestWrite) bool { return w.seq == seq }) {
				c.found.add("volume %s, block %d, on %s at %s: it has write %d and must have %s", op.Key, s.Block, op.Host, at(op.Call), seq, b)
				break
			}
		}
		if len(s.Seqs) == 1 && b.settle {
			b.may = []guestWrite{{s.Seqs[0], true}}
		}
	}
}

// String names the writes of which a block must have one.
func (b *guestBlock) String() string {
	var all []uint64
	for _, w := range b.may {
		all = append(all, w.seq)
	}
	if len(all) == 1 {
		return fmt.Sprintf("write %d", all[0])
	}
	return fmt.Sprintf("one of the writes %v", all)
}

// atTheEnd demands that all volumes that are still there were read to the end.
func (c *lostCheck) atTheEnd() {
	for id, v := range c.volumes {
		if v.deleted {
			continue
		}
		unread := 0
		for _, b := range v.blocks {
			if !b.read && len(b.may) > 1 {
				unread++
			}
		}
		if unread > 0 {
			c.found.add("volume %s: %d of %d blocks were not read back in the end", id, unread, len(v.blocks))
		}
	}
}
