package leases

import (
	"context"
	"fmt"
	"time"
)

// sharer is a host whose block says that it holds the lease shared, and the generation in which it said so.
type sharer struct {
	host       int
	generation uint64
}

// holdFlag is flags with the mark of a lease that is taken only to be shared at once.
func (a *attempt) holdFlag(flags uint32) uint32 {
	if a.short {
		return flags | flagShortHold
	}
	return flags &^ flagShortHold
}

// noteSharer remembers host h of step 1 if its block says shared.
func (a *attempt) noteSharer(h int, d *DBlock) {
	if d.Shared() && h != a.ls.cfg.HostID {
		a.sharers = append(a.sharers, sharer{h, d.ModeGeneration})
	}
}

// refuseShared ends an exclusive acquire before its first write when step 1 saw a sharer that is not gone. A ballot
// would only be undone again, and disturb hosts that want to share.
func (a *attempt) refuseShared(ctx context.Context) error {
	if a.short || a.looked { // after a wait what step 1 saw is old, and the ballot will tell
		return nil
	}
	for _, s := range a.sharers {
		if gone, err := a.ls.sharerGone(ctx, s); err != nil || !gone {
			return a.sharedBy(s, err)
		}
	}
	return nil
}

// clearSharers is step 7: dead hosts' shared leases are wiped, live ones' win over us. The lease is ours meanwhile, so
// that nobody can become a sharer between the look at a block and its end.
func (a *attempt) clearSharers(ctx context.Context) error {
	if a.short {
		return nil
	}
	for _, s := range a.sharers {
		if s.host == a.ls.cfg.HostID {
			continue
		}
		d, err := a.readBlock(ctx, s.host)
		if err != nil {
			return err
		}
		if !d.Shared() || d.ModeGeneration == 0 {
			continue
		}
		s.generation = d.ModeGeneration
		if gone, err := a.ls.sharerGone(ctx, s); err != nil || !gone {
			return a.sharedBy(s, err)
		}
		if err := a.writeSector(ctx, s.host+1, make([]byte, a.geo.SectorSize)); err != nil {
			return fmt.Errorf("clearing dead sharer %d of resource %s: %w", s.host, a.spec.Name, err)
		}
	}
	return nil
}

// sharedBy is the refusal because of s, or err if there is one.
func (a *attempt) sharedBy(s sharer, err error) error {
	if err != nil {
		return fmt.Errorf("judging host %d, a sharer of resource %s: %w", s.host, a.spec.Name, err)
	}
	st := a.ls.HostStatus(s.host)
	return &HeldError{Resource: a.spec.Name, HostID: s.host, Generation: s.generation, Version: a.found.Lver,
		HostName: st.Name, State: st.State, Free: st.DeadIn, Shared: true}
}

// sharerGone says whether a host can use its shared lease no more: its host id was freed or taken again since, or it is
// dead. What was remembered of it is not enough: a host that joined since the last look would count as free.
func (ls *Lockspace) sharerGone(ctx context.Context, s sharer) (bool, error) {
	if s.generation == 0 || ls.cfg.Bugs.WipeSharers {
		return true, nil
	}
	rec, err := ls.readRecord(ctx, s.host)
	if err != nil {
		return false, err
	}
	return ls.departed(s.host, &rec, s.generation) || ls.silentTooLong(s.host, &rec), nil
}

// silentTooLong says whether host id is DEAD, rec being its record as it is now. The larger of its N and ours counts.
func (ls *Lockspace) silentTooLong(id int, rec *Leader) bool {
	o, now, p := ls.observed(id), ls.now(), ls.cfg.Profile
	if o.state(p, now) != HostDead || o.timestamp != rec.Timestamp || o.generation != rec.OwnerGeneration {
		return false
	}
	p.IOTimeout = max(p.IOTimeout, ls.ioTimeoutOf(rec), time.Duration(o.ioTimeout&0xff)*time.Second)
	return now-o.since() > p.HostDead()
}
