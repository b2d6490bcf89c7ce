package leases

import (
	"context"
	"fmt"
	"time"
)

type verdict int

const (
	ownerSilent verdict = iota // keep watching
	ownerAlive
	ownerGone // freed, moved on, or dead for certain
)

// ownerWatch judges one owner over time.
type ownerWatch struct {
	ls         *Lockspace
	id         int
	generation uint64
	start      time.Duration // since when it is known to be silent
	stamp      uint64        // the timestamp it is silent at
	known      bool          // stamp is valid
}

// newWatch starts from what the renewal loop has seen of the owner.
func (a *attempt) newWatch() (*ownerWatch, error) {
	l := &a.found
	if l.OwnerID == 0 || l.OwnerID > uint64(a.ls.geo.MaxHosts()) {
		return nil, fmt.Errorf("resource %s: %w: owner %d", a.spec.Name, ErrCorrupt, l.OwnerID)
	}
	w := &ownerWatch{ls: a.ls, id: int(l.OwnerID), generation: l.OwnerGeneration, start: a.ls.now()}
	if o := a.ls.observed(w.id); o.everLive && o.owner == l.OwnerID && o.generation == l.OwnerGeneration {
		w.start, w.stamp, w.known = o.lastLive, o.timestamp, true
	}
	return w, nil
}

// observed is a copy of what is remembered of host id.
func (ls *Lockspace) observed(id int) observed {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.cover = max(ls.cover, id)
	return ls.hosts[id-1]
}

// step reads the owner's record once. An invalid record proves nothing and fails the acquire.
func (w *ownerWatch) step(ctx context.Context) (verdict, error) {
	now := w.ls.now()
	rec, err := w.ls.readRecord(ctx, w.id)
	if err != nil {
		return ownerSilent, fmt.Errorf("judging the owner: %w", err)
	}
	if w.ls.departed(w.id, &rec, w.generation) {
		return ownerGone, nil
	}
	if rec.Timestamp == 0 {
		return ownerSilent, nil
	}
	if w.ls.cfg.Bugs.SilentIsGone {
		return ownerGone, nil
	}
	if !w.known {
		w.stamp, w.known = rec.Timestamp, true
		return ownerSilent, nil
	}
	o := w.ls.observed(w.id)
	if rec.Timestamp != w.stamp || o.lastCheck == o.lastLive && o.lastLive != o.firstCheck {
		return ownerAlive, nil
	}
	if now-w.start > w.deadAfter(&rec) {
		return ownerGone, nil
	}
	return ownerSilent, nil
}

// deadAfter is 8N + W with the larger of the owner's N, as its record says now, and ours.
func (w *ownerWatch) deadAfter(rec *Leader) time.Duration {
	p := w.ls.cfg.Profile
	p.IOTimeout = max(p.IOTimeout, w.ls.ioTimeoutOf(rec))
	if w.ls.cfg.Bugs.TakeOverEarly {
		return p.Expiry()
	}
	return surely(p.HostDead())
}

// departed says whether a generation of host id can have left: its record, as it is now, is free or somebody's since. A
// record that is free in an earlier generation proves nothing by itself: a free on proof that landed after its host had
// come back looks like that. It is believed when nobody has renewed it for 8N + W.
func (ls *Lockspace) departed(id int, rec *Leader, generation uint64) bool {
	if rec.OwnerID != uint64(id) || rec.OwnerGeneration > generation {
		return true
	}
	return rec.Timestamp == 0 && (rec.OwnerGeneration == generation || ls.stoodStill(id, rec))
}

// stoodStill says whether our looks found the record of host id as it is now for 8N + W.
func (ls *Lockspace) stoodStill(id int, rec *Leader) bool {
	o, p := ls.observed(id), ls.cfg.Profile
	p.IOTimeout = max(p.IOTimeout, ls.ioTimeoutOf(rec))
	return o.timestamp == rec.Timestamp && o.generation == rec.OwnerGeneration && o.still(p, ls.now())
}
