package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// LinearVolumes holds consistent reads against the changes that were acknowledged as mirrored: for each name there is one
// order of changes and reads that explains all answers. A change that is acknowledged as not yet mirrored may be shown at
// any later time.
func LinearVolumes(r Record) history.Verdict {
	return linear("linear volumes", volumeParts(r, true))
}

// LinearDisk does the same for the changes alone, which the SPM decides by what is on disk: they need no mirror to be in
// order.
func LinearDisk(r Record) history.Verdict {
	return linear("linear disk", volumeParts(r, false))
}

// volumeParts makes a history for each name. The state is the id of the volume that has the name, or nothing.
func volumeParts(r Record, reads bool) []*part[string] {
	t := volumesOf(r)
	var parts []*part[string]
	for _, name := range t.names {
		n := t.byName[name]
		p := &part[string]{name: "volume " + name}
		seen := n.seen(t, reads)
		for _, c := range n.creates {
			if seen.any(c.may) {
				addCreate(p, c, n, reads)
			}
		}
		for _, d := range n.deletes {
			if d.id == "" || seen[d.id] || !openDelete(d, reads) {
				addDelete(p, d, n, reads)
			}
		}
		if reads {
			addVolumeReads(p, t, n)
		}
		parts = append(parts, p)
	}
	return parts
}

// idSet is a set of volumes.
type idSet map[string]bool

func (s idSet) any(ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return s[id] })
}

// seen are the volumes that somebody knows to have been there. One that nobody has seen, made by a create of unknown end and deleted by
// deletes of unknown end if at all, need not have been made: all answers are as well explained without it. A history with many of
// them takes for ever to search.
func (n *volumeHistory) seen(t *volumeTable, reads bool) idSet {
	s := idSet{}
	for _, c := range n.creates {
		if c.op.Outcome == history.OK && !openCreate(c, reads) {
			for _, id := range c.may {
				s[id] = true
			}
		}
	}
	for _, d := range n.deletes {
		if !openDelete(d, reads) {
			s[d.id] = true
		}
	}
	if reads {
		for _, l := range t.lists {
			s[l.id(n.name)] = true
		}
		for _, sh := range n.shows {
			s[sh.id] = true
		}
	}
	return s
}

// openCreate tells whether a create may have its effect at any later time.
func openCreate(c volumeOp, reads bool) bool {
	return c.op.Outcome == history.Unknown || c.op.Outcome == history.OK && reads && !c.answer.Mirrored
}

// openDelete tells the same of a delete.
func openDelete(d volumeOp, reads bool) bool {
	return d.op.Outcome == history.Unknown || d.op.Outcome == history.OK && reads && !d.answer.Mirrored
}

// addCreate adds a create. A repetition of its key finds the volume; so does the request itself, which the client and
// the agents send again when an answer is lost. Where a delete comes between the two, it is made a second time.
func addCreate(p *part[string], c volumeOp, n *volumeHistory, reads bool) {
	what := fmt.Sprintf("create by client %d of %s: %s", c.op.Client, short(c.id), c.op.Outcome)
	apply := func(s string) []string {
		switch {
		case s == "":
			return c.may
		case slices.Contains(c.may, s):
			return []string{s}
		}
		return nil
	}
	switch {
	case c.op.Outcome == history.Failed:
		return
	case openCreate(c, reads):
		p.add(c.op, true, what, maybe(apply))
		p.add(c.op, true, what+", sent again", maybe(apply))
		return
	}
	p.add(c.op, false, what, apply)
	if n.deletedDuring(c) {
		p.add(c.op, false, what+", sent again", maybe(apply))
	}
}

// addDelete adds a delete. It succeeds on nothing only if another delete of the same volume may have gone before: the two
// were one then, or it finished what a crash had left.
func addDelete(p *part[string], d volumeOp, n *volumeHistory, reads bool) {
	what := fmt.Sprintf("delete by client %d of %s: %s %s", d.op.Client, short(d.id), d.op.Outcome, d.op.Code)
	again := n.deletedBefore(d)
	apply := func(s string) []string {
		if s != "" && (s == d.id || d.id == "") || s == "" && again {
			return []string{""}
		}
		return nil
	}
	absent := func(s string) []string {
		if s == "" || d.input.ID != "" && s != d.input.ID {
			return []string{s}
		}
		return nil
	}
	switch {
	case openDelete(d, reads):
		p.add(d.op, true, what, maybe(apply))
	case d.op.Outcome == history.OK:
		p.add(d.op, false, what, apply)
	case d.op.Code == api.CodeNotFound && !reads:
		p.add(d.op, false, what, absent) // said by the disk, which the mirror may not have followed yet
	}
}

// afterwards is how long after the last operation on a name lists are still held against it. It bounds the length of a
// history; what changes later is found in the last lists.
const afterwards = 20 * time.Second

// addVolumeReads adds the consistent reads of a name's time.
func addVolumeReads(p *part[string], t *volumeTable, n *volumeHistory) {
	add := func(op history.Op, got string) {
		what := fmt.Sprintf("%s by client %d on %s shows %s", op.Kind, op.Client, op.Host, short(got))
		p.add(op, false, what, func(s string) []string {
			if s != got {
				return nil
			}
			return []string{s}
		})
	}
	for _, l := range t.lists {
		if l.input.Consistent && l.op.Return >= n.from && l.op.Call <= n.until+afterwards {
			add(l.op, l.id(n.name))
		}
	}
	for _, s := range n.shows {
		if s.input.Consistent {
			add(s.op, s.id)
		}
	}
}

// short is a UUID for people.
func short(id string) string {
	switch {
	case id == "":
		return "nothing"
	case len(id) > 8:
		return id[:8]
	}
	return id
}

// at is a moment for people.
func at(d time.Duration) string {
	if d == history.Forever {
		return "no time"
	}
	return d.Round(time.Millisecond).String()
}
