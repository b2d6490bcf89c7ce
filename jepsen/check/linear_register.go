package check

import (
	"fmt"

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

// registerPart makes the history of one description. It begins with what the volume was made with.
func registerPart(n *volumeHistory, t *volumeTable) *part[string] {
	p := &part[string]{name: "description of " + n.name, init: n.born()}
	for _, w := range n.writes {
		apply := func(string) []string { return []string{w.input.Description} }
		what := fmt.Sprintf("write of %q by client %d: %s", w.input.Description, w.op.Client, w.op.Outcome)
		switch {
		case w.op.Outcome == history.Failed:
		case w.op.Outcome == history.Unknown || !w.answer.Mirrored:
			p.add(w.op, true, what, maybe(apply))
		default:
			p.add(w.op, false, what, apply)
		}
	}
	read := func(op history.Op, got string) {
		what := fmt.Sprintf("%s by client %d on %s shows %q", op.Kind, op.Client, op.Host, got)
		p.add(op, false, what, func(s string) []string {
			if s != got {
				return nil
			}
			return []string{s}
		})
	}
	for _, s := range n.shows {
		if s.input.Consistent && s.op.Outcome == history.OK {
			read(s.op, s.answer.Description)
		}
	}
	for _, l := range t.lists {
		if id := l.id(n.name); l.input.Consistent && id != "" {
			read(l.op, l.said[id])
		}
	}
	return p
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
