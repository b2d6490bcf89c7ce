package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// ageSlack is how much older than its stated age an answer from a mirror may be: the leader's word that something is
// committed travels with the next message, and an agent on a busy machine takes its time.
const ageSlack = 5 * time.Second

// Mirrors holds the reads that no leader was asked for against what they say about themselves: all that was acknowledged
// up to their index is in them, nothing that never was, and one host never shows an older state than before, unless it
// was started anew in between.
func Mirrors(r Record) history.Verdict {
	m := &mirrorCheck{t: volumesOf(r), faults: r.Faults}
	m.learn()
	reads := m.t.mirrorReads()
	for _, l := range reads {
		m.judge(l)
	}
	m.backwards(reads)
	return withBad(judged("mirror reads", m.found, "%d reads from mirrors", len(reads)), m.t.bad)
}

// mirrorReads are the lists and shows of mirrors, in the order of their calls.
func (t *volumeTable) mirrorReads() []listOp {
	var out []listOp
	for _, l := range t.lists {
		if !l.input.Consistent {
			out = append(out, l)
		}
	}
	for _, name := range t.names {
		for _, s := range t.byName[name].shows {
			if !s.input.Consistent && s.op.Outcome == history.OK {
				out = append(out, listOp{op: s.op, input: s.input, stated: s.answer.Age, ids: map[string]string{name: s.id},
					names: map[string]string{s.id: name}, said: map[string]string{s.id: s.answer.Description}})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b listOp) int { return cmp.Compare(a.op.Call, b.op.Call) })
	return out
}

// life is what is known of one volume.
type life struct {
	name    string
	creates []volumeOp // not surely failed
	deletes []volumeOp // not surely failed
}

type mirrorCheck struct {
	t      *volumeTable
	faults []history.Fault
	lives  map[string]*life // by id
	writes map[string]volumeOp
	found  []string
}

// learn puts together what is known of each volume and of each description.
func (m *mirrorCheck) learn() {
	m.lives, m.writes = map[string]*life{}, map[string]volumeOp{}
	for _, n := range m.t.byName {
		for _, c := range n.creates {
			if c.op.Outcome == history.Failed {
				continue
			}
			for _, id := range c.may {
				l := m.life(id, n.name)
				l.creates = append(l.creates, c)
			}
		}
		for _, w := range n.writes {
			m.writes[w.input.Description] = w
		}
	}
	for _, n := range m.t.byName {
		for _, d := range n.deletes {
			m.learnDelete(n, d)
		}
	}
}

// learnDelete notes a delete with the volume that it hit, or with all that it may have hit.
func (m *mirrorCheck) learnDelete(n *volumeHistory, d volumeOp) {
	for id, l := range m.lives {
		if l.name == n.name && d.mayBe(id) {
			l.deletes = append(l.deletes, d)
		}
	}
}

func (m *mirrorCheck) life(id, name string) *life {
	if m.lives[id] == nil {
		m.lives[id] = &life{name: name}
	}
	return m.lives[id]
}

func (m *mirrorCheck) say(l listOp, format string, args ...any) {
	m.found = append(m.found, fmt.Sprintf("%s on %s at %s, index %d: ", l.op.Kind, l.op.Host, at(l.op.Call), l.op.Index)+fmt.Sprintf(format, args...))
}

// judge looks at one read.
func (m *mirrorCheck) judge(l listOp) {
	prefix := m.t.runPrefix()
	for id, name := range l.names {
		switch v := m.lives[id]; {
		case v == nil && strings.HasPrefix(name, prefix):
			m.say(l, "%s (%s) is shown and no create that may have succeeded explains it", name, short(id))
		case v != nil && !v.mayBeThere(l):
			m.say(l, "%s (%s) is shown, which was deleted by then or not yet made", name, short(id))
		}
		m.judgeText(l, id)
	}
	if l.op.Kind != history.VolumeList {
		return
	}
	for id, v := range m.lives {
		if _, shown := l.names[id]; !shown && !v.mayBeMissing(l) {
			m.say(l, "%s (%s) is missing, whose create it must know", v.name, short(id))
		}
	}
}

// known tells whether a read must show what a change did: the change was acknowledged with an index that the read has
// reached, or so long ago that the read's age does not allow for it.
func known(c volumeOp, l listOp) bool {
	if c.op.Outcome != history.OK || !c.answer.Mirrored || c.op.Return >= l.op.Call {
		return false
	}
	return c.op.Index > 0 && c.op.Index <= l.op.Index || c.op.Return < l.op.Call-l.stated-ageSlack
}

// mayBeThere tells whether some order shows the volume: it was asked for before the read ended, and not surely deleted
// for good in what the read must know.
func (v *life) mayBeThere(l listOp) bool {
	made := func(after time.Duration) bool {
		return slices.ContainsFunc(v.creates, func(c volumeOp) bool { return c.op.Call <= l.op.Return && c.op.Return >= after })
	}
	if !made(0) {
		return false
	}
	for _, d := range v.deletes {
		if known(d, l) && d.id != "" && !made(d.op.Call) {
			return false
		}
	}
	return true
}

// mayBeMissing tells whether some order does not show the volume: no create of it is known to the read, or a delete may
// have come after.
func (v *life) mayBeMissing(l listOp) bool {
	for _, c := range v.creates {
		if !known(c, l) || len(c.may) > 1 {
			continue
		}
		gone := slices.ContainsFunc(v.deletes, func(d volumeOp) bool { return d.op.Call <= l.op.Return && d.op.Return >= c.op.Call })
		if !gone {
			return false
		}
	}
	return true
}

// judgeText looks at a description: somebody wrote it, and nothing newer is known to the read.
func (m *mirrorCheck) judgeText(l listOp, id string) {
	v, n := m.lives[id], m.t.byName[l.names[id]]
	if v == nil || n == nil || len(n.writes) == 0 {
		return
	}
	said := l.said[id]
	w, written := m.writes[said]
	switch {
	case !written && said != n.born():
		m.say(l, "%s is described as %q, which nobody wrote", n.name, said)
		return
	case written && (w.op.Outcome == history.Failed || w.op.Call > l.op.Return):
		m.say(l, "%s is described as %q, a write that %s at %s", n.name, said, w.op.Outcome, at(w.op.Call))
		return
	}
	for _, newer := range n.writes {
		if known(newer, l) && (!written || w.op.Return < newer.op.Call) {
			m.say(l, "%s is described as %q, older than %q with index %d", n.name, said, newer.input.Description, newer.op.Index)
			return
		}
	}
}

// backwards looks at one host's reads in turn: neither the index nor what is shown may go back.
func (m *mirrorCheck) backwards(reads []listOp) {
	byHost := map[string][]listOp{}
	for _, l := range reads {
		byHost[l.op.Host] = append(byHost[l.op.Host], l)
	}
	for host, reads := range byHost {
		slices.SortStableFunc(reads, func(a, b listOp) int { return cmp.Compare(a.op.Return, b.op.Return) })
		m.backwardsOn(host, reads)
	}
}

// backwardsOn keeps the newest of the reads that were over when another began.
func (m *mirrorCheck) backwardsOn(host string, reads []listOp) {
	calls := slices.Clone(reads)
	slices.SortStableFunc(calls, func(a, b listOp) int { return cmp.Compare(a.op.Call, b.op.Call) })
	var newest *listOp
	next := 0
	for _, l := range calls {
		for ; next < len(reads) && reads[next].op.Return < l.op.Call; next++ {
			if newest == nil || reads[next].op.Index >= newest.op.Index || restarted(m.faults, host, newest.op.Call, l.op.Return) {
				newest = &reads[next]
			}
		}
		if newest != nil && l.op.Index < newest.op.Index && !restarted(m.faults, host, newest.op.Call, l.op.Return) {
			m.say(l, "the host had shown index %d at %s", newest.op.Index, at(newest.op.Return))
		}
	}
}

// restarts are words in the kinds of faults that end an agent: its mirror begins again with what it has on its disk.
var restarts = []string{"kill", "restart", "crash", "power", "torn", "bytes", "flip", "leave", "join", "member", "disk"}

// restarted tells whether a host's agent may have been started anew between two moments.
func restarted(faults []history.Fault, host string, from, until time.Duration) bool {
	return slices.ContainsFunc(faults, func(f history.Fault) bool {
		ends := slices.ContainsFunc(restarts, func(w string) bool { return strings.Contains(f.Kind, w) })
		return ends && mayLose([]history.Fault{f}, host, from, until)
	})
}
