package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// FinalSet holds what was there at the end, by each host's mirror and by the LUN itself, against all that was
// acknowledged: no create is lost, no deleted volume has come back, and there is nothing that nobody may have made.
func FinalSet(r Record) history.Verdict {
	if r.Final == nil {
		return judged("nothing lost", []string{"the run has no last lists: it ended before everything had healed"}, "not judged")
	}
	m := &mirrorCheck{t: volumesOf(r)}
	m.learn()
	var found []string
	hosts := slices.Sorted(maps.Keys(r.Final.Mirrors))
	for _, host := range hosts {
		found = append(found, m.finally("the mirror of "+host, r.Final.Mirrors[host])...)
	}
	found = append(found, m.finally("the LUN", r.Final.LUN)...)
	if len(hosts) == 0 {
		found = append(found, "no host's last list was taken")
	}
	acked := 0
	for _, v := range m.lives {
		for _, c := range v.creates {
			if c.op.Outcome == history.OK {
				acked++
				break
			}
		}
	}
	return withBad(judged("nothing lost", found, "%d volumes acknowledged, %d left on the LUN, %d mirrors", acked, len(r.Final.LUN), len(hosts)), m.t.bad)
}

// finally judges one last list. A volume without a name comes from a list of bare LVs, in which nothing else may be.
func (m *mirrorCheck) finally(where string, list []history.VolumeRef) []string {
	var found []string
	shown := map[string]bool{}
	prefix := m.t.runPrefix()
	for _, v := range list {
		l := m.lives[v.ID]
		switch {
		case shown[v.ID]:
			found = append(found, fmt.Sprintf("%s has %s (%s) twice", where, v.Name, v.ID))
		case l == nil && (v.Name == "" || strings.HasPrefix(v.Name, prefix)):
			found = append(found, fmt.Sprintf("%s has %s (%s), and no create that may have succeeded explains it", where, v.Name, v.ID))
		case l != nil && l.surelyGone():
			found = append(found, fmt.Sprintf("%s has %s (%s) back, which was deleted", where, v.Name, v.ID))
		}
		shown[v.ID] = true
		found = append(found, m.finalText(where, v)...)
	}
	for id, l := range m.lives {
		if !shown[id] && l.surelyThere() {
			found = append(found, fmt.Sprintf("%s has lost %s (%s), whose create was acknowledged", where, l.name, id))
		}
	}
	slices.Sort(found)
	return found
}

// surelyGone tells whether a delete was acknowledged and no create may have come after its call.
func (v *life) surelyGone() bool {
	return slices.ContainsFunc(v.deletes, func(d volumeOp) bool {
		return d.op.Outcome == history.OK && d.id != "" &&
			!slices.ContainsFunc(v.creates, func(c volumeOp) bool { return c.op.Return >= d.op.Call })
	})
}

// surelyThere tells whether a create was acknowledged and no delete may have come after its call.
func (v *life) surelyThere() bool {
	return slices.ContainsFunc(v.creates, func(c volumeOp) bool {
		return c.op.Outcome == history.OK &&
			!slices.ContainsFunc(v.deletes, func(d volumeOp) bool { return d.op.Return >= c.op.Call })
	})
}

// finalText judges a description at the end: it is the last that was acknowledged, or one that may have come later.
func (m *mirrorCheck) finalText(where string, v history.VolumeRef) []string {
	n := m.t.byName[v.Name]
	if n == nil || len(n.writes) == 0 || m.lives[v.ID] == nil {
		return nil
	}
	w, written := m.writes[v.Description]
	for _, newer := range n.writes {
		lost := newer.op.Outcome == history.OK && (!written || w.op.Return < newer.op.Call)
		if lost {
			return []string{fmt.Sprintf("%s has %s with %q and has lost %q", where, v.Name, v.Description, newer.input.Description)}
		}
	}
	if written && w.op.Outcome == history.Failed {
		return []string{fmt.Sprintf("%s has %s with %q, whose write surely failed", where, v.Name, v.Description)}
	}
	return nil
}
