package check

import (
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Keys looks at idempotency: whoever asks with the same key gets the same volume, and no two keys get one volume.
func Keys(r Record) history.Verdict {
	t := volumesOf(r)
	byKey, byID := map[string]volumeOp{}, map[string]string{}
	var found []string
	repeats := 0
	for _, name := range t.names {
		for _, c := range t.byName[name].creates {
			if c.op.Outcome != history.OK {
				continue
			}
			key, id := c.input.Idempotency, c.answer.ID
			first, again := byKey[key]
			switch {
			case again && first.answer.ID != id:
				found = append(found, fmt.Sprintf("key %s gave %s at %s and %s on %s at %s", key, first.answer.ID, at(first.op.Return), id, c.op.Host, at(c.op.Return)))
			case again:
				repeats++
			default:
				byKey[key] = c
			}
			if other, had := byID[id]; had && other != key {
				found = append(found, fmt.Sprintf("keys %s and %s gave the same volume %s", other, key, id))
			}
			byID[id] = key
			if c.answer.Name != name {
				found = append(found, fmt.Sprintf("a create of %s was answered with a volume named %q", name, c.answer.Name))
			}
		}
	}
	return withBad(judged("idempotency", found, "%d keys, %d repeated with success", len(byKey), repeats), t.bad)
}

// Lists looks at each list by itself: a name is in it once.
func Lists(r Record) history.Verdict {
	t := volumesOf(r)
	var found []string
	for _, l := range t.lists {
		for _, name := range l.double {
			found = append(found, fmt.Sprintf("the list of %s at %s has %s twice", l.op.Host, at(l.op.Return), name))
		}
	}
	slices.Sort(found)
	return withBad(judged("lists", found, "%d lists", len(t.lists)), t.bad)
}
