package check

import (
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// LinearRegisters holds consistent reads of a description against its writes. Each value is written once, so that a value
// names its write.
func LinearRegisters(r Record) history.Verdict {
	t := volumesOf(r)
	var parts []*part[string]
	for _, name := range t.names {
		if n := t.byName[name]; len(n.writes) > 0 {
			parts = append(parts, registerPart(n, t))
		}
	}
	return linear("linear registers", parts)
}

// reading is what a consistent read shows.
type reading struct {
	op  history.Op
	got string
}

// registerPart makes the history of one description. It begins with what the volume was made with.
//
// A write that nobody knows the end of may have its effect at any later time, and many of them make a search without an end. But each value
// is written once: what nobody has read need not have been written, and what somebody has was written before that answer.
func registerPart(n *volumeHistory, t *volumeTable) *part[string] {
	p := &part[string]{name: "description of " + n.name, init: n.born()}
	reads := n.readings(t)
	first := map[string]time.Duration{}
	for _, r := range reads {
		if at, ok := first[r.got]; !ok || r.op.Return < at {
			first[r.got] = r.op.Return
		}
	}
	for _, w := range n.writes {
		apply := func(string) []string { return []string{w.input.Description} }
		what := fmt.Sprintf("write of %q by client %d: %s", w.input.Description, w.op.Client, w.op.Outcome)
		switch {
		case w.op.Outcome == history.Failed:
		case w.op.Outcome == history.Unknown || !w.answer.Mirrored:
			if at, ok := first[w.input.Description]; ok {
				w.op.Return, w.op.Outcome = max(at, w.op.Call), history.OK
				p.add(w.op, false, what, apply)
			}
		default:
			p.add(w.op, false, what, apply)
		}
	}
	for _, r := range reads {
		what := fmt.Sprintf("%s by client %d on %s shows %q", r.op.Kind, r.op.Client, r.op.Host, r.got)
		p.add(r.op, false, what, func(s string) []string {
			if s != r.got {
				return nil
			}
			return []string{s}
		})
	}
	return p
}

// readings are the consistent reads of a description.
func (n *volumeHistory) readings(t *volumeTable) []reading {
	var all []reading
	for _, s := range n.shows {
		if s.input.Consistent && s.op.Outcome == history.OK {
			all = append(all, reading{s.op, s.answer.Description})
		}
	}
	for _, l := range t.lists {
		if id := l.id(n.name); l.input.Consistent && id != "" {
			all = append(all, reading{l.op, l.said[id]})
		}
	}
	return all
}

// born is the description that the volume was made with.
func (n *volumeHistory) born() string {
	for _, c := range n.creates {
		if c.op.Outcome == history.OK {
			return c.input.Description
		}
	}
	return ""
}
