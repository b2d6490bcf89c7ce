package fsm

import "fmt"

// MirrorReplace makes the mirror of a domain equal to what an SPM read from the disk at (Epoch, Seq). Entries that are
// newer than that stay. What differed is in Outcome.Added, Removed and Changed.
type MirrorReplace struct {
	base    `codec:"-"`
	Domain  string   `codec:"d"`
	Epoch   uint64   `codec:"e"`
	Seq     uint64   `codec:"q"`
	Volumes []Volume `codec:"v"`
	Host    string   `codec:"h"` // who read it, for the events
	Time    int64    `codec:"t"`
	// RecordEvents adds one event for each difference (at most maxMirrorEvents, then one that gives the rest's number).
	RecordEvents bool `codec:"r,omitempty"`
}

const maxMirrorEvents = 256

func (*MirrorReplace) kind() kind { return kindMirrorReplace }

func (c *MirrorReplace) apply(t *tables, index uint64) Outcome {
	at := Stamp{c.Epoch, c.Seq}
	if _, ok := t.domains.Get(c.Domain); !ok {
		return refuse(CodeNotFound, "no domain "+c.Domain)
	}
	if floor, ok := t.floors.Get(c.Domain); ok && older(at, floor) {
		_, why := stale("the domain's last reconcile", at, floor)
		return refuse(CodeStale, why)
	}
	out := Outcome{Epoch: c.Epoch}
	onDisk := c.merge(t, at, &out)
	for _, v := range t.volumesOf(c.Domain) {
		if !onDisk[v.ID] && v.stamp().Compare(at) <= 0 {
			t.dropVolume(v)
			t.bury(c.Domain, v.ID, at)
			out.Removed = append(out.Removed, v.ID)
		}
	}
	t.raiseFloor(c.Domain, at)
	if c.RecordEvents {
		c.record(t, index, out)
	}
	return out
}

// merge takes over what was read and returns the ids that were on the disk.
func (c *MirrorReplace) merge(t *tables, at Stamp, out *Outcome) map[string]bool {
	onDisk := make(map[string]bool, len(c.Volumes))
	for _, v := range c.Volumes {
		onDisk[v.ID] = true
		v.Domain, v.Epoch, v.Seq = c.Domain, at.Epoch, at.Seq
		key := volumeKey(v.Domain, v.ID)
		old, known := t.volumes.Get(key)
		tomb, buried := t.tombs.Get(key)
		switch {
		case known && older(at, old.stamp()), buried && tomb.Stamp.Compare(at) >= 0:
			continue
		case !known:
			out.Added = append(out.Added, v.ID)
		case !old.sameAs(v):
			out.Changed = append(out.Changed, v.ID)
		}
		t.putVolume(v)
	}
	return onDisk
}

func (c *MirrorReplace) record(t *tables, index uint64, out Outcome) {
	budget := maxMirrorEvents
	for _, group := range []struct {
		ids        []string
		kind, text string
	}{
		{out.Added, "mirror.added", "found on disk and added to the mirror"},
		{out.Removed, "mirror.removed", "not on disk any more and removed from the mirror"},
		{out.Changed, "mirror.changed", "differed on disk and corrected in the mirror"},
	} {
		n := min(budget, len(group.ids))
		budget -= n
		for _, id := range group.ids[:n] {
			t.addEvent(index, c.event(group.kind, id, "volume "+id+" "+group.text))
		}
		if rest := len(group.ids) - n; rest > 0 {
			t.addEvent(index, c.event(group.kind, c.Domain, fmt.Sprintf("%d more volumes %s", rest, group.text)))
		}
	}
}

func (c *MirrorReplace) event(kind, subject, message string) Event {
	return Event{Time: c.Time, Kind: kind, Severity: Info, Host: c.Host, Subject: subject, Message: message, Epoch: c.Epoch}
}
