package leases

import (
	"fmt"
	"time"
)

// Holder is one host that has a resource.
type Holder struct {
	HostID     int
	Generation uint64
	Status     HostStatus
}

// Judgement is the state of a resource by its area and a Survey.
type Judgement struct {
	State ResourceState
	// Holders are those that have it: the owner, or all that share it.
	Holders []Holder
	// Owner and Generation are the holder, of several the one with the lowest host id; when free the last owner, or 0.
	Owner      int
	Generation uint64
	// Version grows by one at every change of hands.
	Version uint64
	// Held is how long the owner has had it, as far as the clocks of the owner tell; 0 when that is not known.
	Held time.Duration
	// Takeable says that an exclusive acquire now would not have to wait.
	Takeable bool
	// FreeIn is how long it takes until all holders count as dead if they stay silent; 0 when takeable or when one of
	// them is alive.
	FreeIn time.Duration
	// Reason says in a few words why it cannot be had, or why it can although somebody has it. Empty when free.
	Reason string
	// Former is set for a free resource that its owner never gave back: the record still names the owner, whose host id has
	// left the lockspace, was freed there, or is a later generation's. Nil when the resource was released, or never taken.
	Former *Holder
}

// AreaSectors is how many sectors of a resource's area must be read when no host above highest is joined.
func AreaSectors(highest int) int { return highest + 2 }

// ResourceAt names the resource whose leader is at the start of b. A place without one, or with an empty name, gives
// ErrNoLease; a damaged leader ErrCorrupt or ErrVersion.
func ResourceAt(b []byte) (lockspace, resource string, err error) {
	var l Leader
	if err := l.Decode(b); err != nil {
		return "", "", err
	}
	if l.Magic == magicResource && l.Resource[0] == 0 && checksum(b[:leaderSumSize]) == l.Checksum {
		return "", "", fmt.Errorf("%w: its name is empty", ErrNoLease)
	}
	if err := l.verifyResource(b, l.Space, l.Resource, 0); err != nil {
		return "", "", err
	}
	return l.Space.String(), l.Resource.String(), nil
}

// Sighting is what one read of a resource found, boiled down to what a judgement needs.
type Sighting struct {
	leader   Leader
	hosts    int  // whose blocks were read, from host id 1 on
	released bool // by the owner's own block
	sharers  []sharer
}

// SightResource takes in the start of a resource's area, AreaSectors of a Survey or all there is room for, and verifies
// that it is the named one.
func SightResource(area []byte, geo Geometry, lockspace, resource string) (*Sighting, error) {
	space, err := MakeName(lockspace)
	if err != nil {
		return nil, fmt.Errorf("lockspace %w", err)
	}
	name, err := MakeName(resource)
	if err != nil {
		return nil, fmt.Errorf("resource %w", err)
	}
	r := &Sighting{}
	if err := r.leader.Decode(area); err != nil {
		return nil, err
	}
	if err := r.leader.verifyResource(area, space, name, 0); err != nil {
		return nil, err
	}
	if g, err := geometryOf(&r.leader); err != nil || g != geo {
		return nil, fmt.Errorf("%w: %+v in lockspace with %+v", ErrGeometry, g, geo)
	}
	if r.leader.OwnerID > uint64(geo.MaxHosts()) {
		return nil, fmt.Errorf("%w: owner %d", ErrCorrupt, r.leader.OwnerID)
	}
	r.hosts = min(len(area)/geo.SectorSize-2, int(r.leader.NumHosts))
	return r, r.takeBlocks(area, geo)
}

// takeBlocks looks at the blocks of the hosts.
func (r *Sighting) takeBlocks(area []byte, geo Geometry) error {
	for id := 1; id <= r.hosts; id++ {
		var d DBlock
		if err := d.Decode(area[geo.sector(id+1):]); err != nil {
			return err
		}
		if d.Shared() && d.ModeGeneration != 0 {
			r.sharers = append(r.sharers, sharer{host: id, generation: d.ModeGeneration})
		}
		if uint64(id) == r.leader.OwnerID {
			r.released = d.gaveUp(&r.leader)
		}
	}
	return nil
}

// Judge says who has a resource.
func (s *Survey) Judge(r *Sighting) (Judgement, error) {
	l := &r.leader
	if need := min(s.highest, int(l.NumHosts)); r.hosts < need {
		return Judgement{}, fmt.Errorf("%w: blocks of %d hosts were read, of %d are needed", ErrCorrupt, r.hosts, need)
	}
	j := Judgement{State: ResourceFree, Owner: int(l.OwnerID), Generation: l.OwnerGeneration, Version: l.Lver}
	j.decide(s, l, s.owner(r), s.sharing(r))
	if j.State == ResourceFree {
		j.Former = s.former(r)
	}
	return j, nil
}

// former is the owner that the record of a free resource still names.
func (s *Survey) former(r *Sighting) *Holder {
	l := &r.leader
	if l.Timestamp == 0 || l.OwnerID == 0 || r.released {
		return nil
	}
	return &Holder{HostID: int(l.OwnerID), Generation: l.OwnerGeneration, Status: s.Host(int(l.OwnerID))}
}

// owner is the host that has the resource exclusively, if one has.
func (s *Survey) owner(r *Sighting) []Holder {
	l := &r.leader
	id := int(l.OwnerID)
	if l.Timestamp == 0 || id == 0 || s.gone(id, l.OwnerGeneration) || r.released {
		return nil
	}
	return []Holder{{HostID: id, Generation: l.OwnerGeneration, Status: s.Host(id)}}
}

// sharing are the hosts that have the resource shared.
func (s *Survey) sharing(r *Sighting) []Holder {
	var out []Holder
	for _, h := range r.sharers {
		if !s.gone(h.host, h.generation) {
			out = append(out, Holder{HostID: h.host, Generation: h.generation, Status: s.Host(h.host)})
		}
	}
	return out
}

// decide makes the state of an owner and sharers. An owner beside others that share is testing whether it could have
// the resource alone, or is about to share it too; it has nothing yet.
func (j *Judgement) decide(s *Survey, l *Leader, owner, sharers []Holder) {
	alone := len(sharers) == 0 || len(sharers) == 1 && len(owner) == 1 && sharers[0].HostID == owner[0].HostID
	switch {
	case len(owner) == 1 && alone && (len(sharers) == 0 || l.Flags&flagShortHold == 0):
		j.State, j.Holders = ResourceExclusive, owner
		j.Held = s.held(&owner[0], l)
	case len(sharers) > 0:
		j.State, j.Holders = ResourceShared, sharers
	default:
		j.Takeable = true
		return
	}
	j.Owner, j.Generation = j.Holders[0].HostID, j.Holders[0].Generation
	j.outlook()
}

// held is the time since the owner took the resource: both stamps are of the owner's clock.
func (s *Survey) held(h *Holder, l *Leader) time.Duration {
	if h.Status.Generation != h.Generation || h.Status.Timestamp < l.Timestamp {
		return 0
	}
	return time.Duration(h.Status.Timestamp-l.Timestamp)*time.Second + h.Status.Silent
}

// outlook says when and why: of several holders the one counts that is waited for the longest.
func (j *Judgement) outlook() {
	j.Takeable, j.Reason = true, "its holder is dead"
	for i := range j.Holders {
		st := &j.Holders[i].Status
		alive := st.State == HostLive
		switch {
		case st.State == HostDead:
			continue
		case j.Takeable, alive, st.DeadIn > j.FreeIn:
			j.Takeable, j.FreeIn, j.Reason = false, st.DeadIn, reasonOf(st)
		}
		if alive || st.DeadIn == 0 {
			j.FreeIn = 0
			return
		}
	}
}

// reasonOf says why a holder's resource cannot be had.
func reasonOf(st *HostStatus) string {
	switch st.State {
	case HostLive:
		return "its holder is alive"
	case HostFail:
		return fmt.Sprintf("its holder has been silent for %s and may still be running", st.Silent.Round(time.Second))
	}
	if st.State == HostFree {
		return "its holder's record was freed in an earlier generation, which says nothing about this one"
	}
	return "its holder has not been watched for long enough to be judged"
}
