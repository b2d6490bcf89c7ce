package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// Verdict is what a proof allows to be done with a host's record as it is on disk now.
type Verdict string

// Verdicts of Judge.
const (
	VerdictFree  Verdict = "free"  // the proof is about exactly this record: it may be freed
	VerdictLate  Verdict = "late"  // one write that was on its way when the host died has landed: it may be freed once more
	VerdictDone  Verdict = "done"  // nobody has the id there
	VerdictVoid  Verdict = "void"  // the record changed since: the proof says nothing about it
	VerdictOther Verdict = "other" // the proof is not about this lockspace
)

// leaseLife is how many of its I/O timeouts a host's lease lives for. A write that was on its way when the host died
// carries a time no later than that after the record's last one.
const leaseLife = 8

// Judge decides what a proof allows for a record. Pure. A host has at most one renewal on its way, and only a machine's
// proof is made at a moment that it could be on its way after: a person's word that is followed by a change was wrong.
func Judge(p fsm.Proof, lockspace, master string, rec leases.HostRecord) Verdict {
	seen, ok := p.Space(lockspace, master)
	n := rec.IOTimeout
	if n == 0 {
		n = time.Second
	}
	switch {
	case !ok || p.Kind == "" || p.HostID != rec.HostID:
		return VerdictOther
	case rec.Generation != seen.Generation:
		return VerdictVoid
	case rec.Timestamp == 0:
		return VerdictDone
	case rec.Timestamp == seen.Timestamp || len(p.Spaces) == 0: // the oldest proofs name no time
		return VerdictFree
	case p.Kind == fsm.ProofPerson || rec.Timestamp < seen.Timestamp:
		return VerdictVoid
	case rec.Timestamp-seen.Timestamp <= uint64(leaseLife*n/time.Second):
		return VerdictLate
	}
	return VerdictVoid
}

// sights are what witnesses saw of one host id, by lockspace.
type sights map[string]SpaceSight

// newest takes over what is newer: a later generation, or of one generation a later time. Witnesses that read at the same
// time see the same, unless a write lands in between.
func (s sights) newest(list []SpaceSight) {
	for _, n := range list {
		o, ok := s[n.Lockspace]
		same := n.Record.Generation == o.Record.Generation
		if !ok || n.Record.Generation > o.Record.Generation || same && n.Record.Timestamp > o.Record.Timestamp ||
			same && n.Record.Timestamp == o.Record.Timestamp && o.State == leases.HostUnknown {
			s[n.Lockspace] = n
		}
	}
}

// records makes what a proof names: the generations that were seen before the host was known to be off, with their times
// as they are since. A generation that is newer than what was seen before may be that of a host that came back.
func (s sights) records(before sights) []fsm.SpaceRecord {
	var out []fsm.SpaceRecord
	for ls, now := range s {
		if was, ok := before[ls]; ok && was.Record.Generation == now.Record.Generation {
			out = append(out, fsm.SpaceRecord{Lockspace: ls, Generation: now.Record.Generation, Timestamp: now.Record.Timestamp})
		}
	}
	return out
}

// sight asks witnesses for the records of a host id in every lockspace that they have joined, read from the disk. What
// cannot be read in time is left out: then nothing is proven there.
func (t *term) sight(ctx context.Context, hostID int) sights {
	return t.sightFor(ctx, SightRequest{HostIDs: []int{hostID}, Disk: true})
}

// sightFor asks all witnesses the same.
func (t *term) sightFor(ctx context.Context, req SightRequest) sights {
	t.mu.Lock()
	names := t.witnesses()
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, t.m.cfg.InspectTimeout)
	defer cancel()
	ch := make(chan []SpaceSight, len(names))
	for _, name := range names {
		t.wg.Go(func() {
			var rep SightReply
			err := t.m.cfg.Cluster.Call(ctx, name, MethodSight, req, &rep)
			if err != nil {
				t.report(err, "reading the records of a host in all lockspaces through "+name)
			}
			ch <- rep.Seen
		})
	}
	seen := sights{}
	for range names {
		seen.newest(<-ch)
	}
	return seen
}

// FreeOutcome is what came of freeing one record.
type FreeOutcome struct {
	Lockspace string
	Verdict   Verdict
	Err       error // nil: the verdict was carried out
}

// freeEverywhere frees what a proof covers, in all its lockspaces at the same time.
func (t *term) freeEverywhere(ctx context.Context, p fsm.Proof) []FreeOutcome {
	pool, _ := t.m.cfg.Cluster.View().Pool()
	spaces := p.Spaces
	if len(spaces) == 0 {
		spaces = []fsm.SpaceRecord{{Lockspace: pool.Master, Generation: p.Generation}}
	}
	out := make([]FreeOutcome, len(spaces))
	done := make(chan struct{}, len(spaces))
	for i, s := range spaces {
		t.wg.Go(func() {
			out[i] = t.freeRecord(ctx, p, s)
			done <- struct{}{}
		})
	}
	for range spaces {
		<-done
	}
	return out
}

// freeRecord frees one record through whichever host has joined that lockspace. That host looks for the proof in its own
// mirror and reads the record again.
func (t *term) freeRecord(ctx context.Context, p fsm.Proof, s fsm.SpaceRecord) FreeOutcome {
	key := slot{s.Lockspace, p.HostID, s.Generation}
	t.mu.Lock()
	via := t.witnesses()
	late := t.late[key]
	t.mu.Unlock()
	if i := slices.Index(via, t.m.cfg.Host); i > 0 {
		via[0], via[i] = via[i], via[0] // the leader's own mirror surely has the proof
	}
	out := FreeOutcome{Lockspace: s.Lockspace, Err: fmt.Errorf("no host could free host id %d in lockspace %s", p.HostID, s.Lockspace)}
	for _, name := range via {
		var rep FreeReply
		req := FreeRequest{HostID: p.HostID, Lockspace: s.Lockspace, Generation: s.Generation, Late: !late}
		err := t.call(ctx, t.m.cfg.Policy.StopTimeout, name, MethodFree, req, &rep)
		if err == nil {
			t.freedRecord(p, key, rep.Verdict)
			return FreeOutcome{Lockspace: s.Lockspace, Verdict: rep.Verdict}
		}
		out.Err = errors.Join(out.Err, fmt.Errorf("%s: %w", name, err))
	}
	return out
}

// freedRecord takes over what came of freeing one record.
func (t *term) freedRecord(p fsm.Proof, key slot, v Verdict) {
	t.mu.Lock()
	first := !t.void[key]
	switch v {
	case VerdictVoid:
		t.void[key] = true
	case VerdictLate:
		t.late[key] = true
	}
	t.mu.Unlock()
	switch v {
	case VerdictVoid:
		if first {
			t.complainOnce(p, key)
		}
	case VerdictLate:
		t.note(fsm.Event{Severity: fsm.Warning, Kind: "proof.late", Host: p.Host, Reason: "a write that was under way when it died landed later",
			Evidence: proofReason(p), Message: fmt.Sprintf("a write of %s landed in lockspace %s after its death was proven; its host id %d was freed there again",
				p.Host, key.lockspace, p.HostID)})
		fallthrough
	case VerdictFree, VerdictDone:
		t.nowFree(key)
	}
}

// kindVoid is the kind of the event that tells of a proof that says nothing any more.
const kindVoid = "proof.void"

// complainOnce records that a proof says nothing about a record any more, once whoever leads.
func (t *term) complainOnce(p fsm.Proof, key slot) {
	message := fmt.Sprintf("the record of %s (host id %d, generation %d) in lockspace %s changed after its death was proven (%s): "+
		"nothing is freed there, its leases are waited for", p.Host, p.HostID, key.generation, key.lockspace, p.Kind)
	for _, e := range slices.Backward(t.m.cfg.Cluster.View().Events()) {
		if e.Kind == kindVoid && e.Host == p.Host && e.Message == message {
			return
		}
	}
	t.note(fsm.Event{Severity: fsm.Warning, Kind: kindVoid, Host: p.Host, Message: message, Reason: "the record is another one than the proof is about",
		Evidence: proofReason(p) + ": " + p.Evidence})
}

// watchProofs looks now and then whether records that proofs cover are still free in all lockspaces: one may not have been
// joined by any host when the proof was made, one may have hung, a late write may have landed. It reads what keepers know.
func (t *term) watchProofs(view *fsm.State) {
	if view.Proofs.Len() == 0 {
		return
	}
	t.mu.Lock()
	due := t.m.cfg.Now().Sub(t.proofsAt) >= t.m.cfg.InspectEvery
	if due {
		t.proofsAt = t.m.cfg.Now()
	}
	names := t.witnesses()
	t.mu.Unlock()
	if due && len(names) > 0 {
		t.once("proofs", func(ctx context.Context) { t.checkProofs(ctx, view, names) })
	}
}

// checkProofs is one look of watchProofs.
func (t *term) checkProofs(ctx context.Context, view *fsm.State, names []string) {
	proofs := openProofs(view)
	var req SightRequest
	for _, p := range proofs {
		req.HostIDs = append(req.HostIDs, p.HostID)
	}
	for _, name := range names {
		var rep SightReply
		begun := t.m.cfg.Now()
		if err := t.call(ctx, t.m.cfg.InspectTimeout, name, MethodSight, req, &rep); err != nil {
			t.report(err, "asking "+name+" about records that proofs cover")
			continue
		}
		for _, s := range rep.Seen {
			t.freeAgain(ctx, proofs, s, begun)
		}
	}
}

// openProofs are the proofs with more to look after than the master: the newest of each host.
func openProofs(view *fsm.State) []fsm.Proof {
	newest := map[string]fsm.Proof{}
	for _, p := range view.Proofs.All() {
		if len(p.Spaces) > 0 && p.Time >= newest[p.Host].Time {
			newest[p.Host] = p
		}
	}
	var out []fsm.Proof
	for _, p := range newest {
		out = append(out, p)
	}
	return out
}

// freeAgain frees one record that a keeper remembers as held although a proof covers it.
func (t *term) freeAgain(ctx context.Context, proofs []fsm.Proof, s SpaceSight, begun time.Time) {
	for _, p := range proofs {
		if p.HostID != s.Record.HostID || s.Record.Timestamp == 0 || t.fencing(p.Host) {
			continue
		}
		for _, sp := range p.Spaces {
			key := slot{s.Lockspace, p.HostID, sp.Generation}
			if sp.Lockspace != s.Lockspace || sp.Generation != s.Record.Generation || t.settled(key, begun.Add(-s.Looked)) {
				continue
			}
			if out := t.freeRecord(ctx, p, sp); out.Err != nil {
				t.complain(ctx, fsm.Event{Severity: fsm.Warning, Kind: "proof.unfreed", Host: p.Host, Reason: "its record in lockspace " + s.Lockspace + " could not be freed",
					Evidence: out.Err.Error(), Message: out.Err.Error()})
			}
		}
	}
}

// settled reports whether nothing is to be done about a record that a keeper looked at then: the proof is void there, or
// it was freed later than that.
func (t *term) settled(key slot, looked time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.void[key] || looked.Before(t.freed[key])
}
