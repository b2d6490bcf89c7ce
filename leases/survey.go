package leases

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Survey is what is known of the hosts of a lockspace at one moment. With it many resources can be judged without
// reading the records of their owners for each. It changes nothing and needs no host id in the lockspace.
type Survey struct {
	geo     Geometry
	space   Name
	hosts   []HostStatus // by host id less one
	damaged []bool       // the record proves nothing
	highest int
}

// ReadSurvey reads the records of host ids 1 to hosts. seen is what a renewal loop has observed of them (Lockspace.Hosts);
// without it nobody is known to be alive or dead, only to have left.
//
// Resources must have been read before the Survey they are judged by: an owner's record that is newer than the resource
// can only make a holder into a former one, never the other way round.
func ReadSurvey(ctx context.Context, dev blockdev.Device, off int64, geo Geometry, lockspace string, hosts int, seen []HostStatus) (*Survey, error) {
	if err := checkRange(dev, off, geo); err != nil {
		return nil, err
	}
	space, err := MakeName(lockspace)
	if err != nil {
		return nil, fmt.Errorf("lockspace %w", err)
	}
	if hosts < 1 || hosts > geo.MaxHosts() {
		return nil, fmt.Errorf("%w: %d of at most %d", ErrHostIDRange, hosts, geo.MaxHosts())
	}
	buf := make([]byte, geo.sector(hosts))
	if err := dev.ReadAt(ctx, buf, off); err != nil {
		return nil, fmt.Errorf("reading lockspace %s: %w", lockspace, err)
	}
	s := &Survey{geo: geo, space: space, hosts: make([]HostStatus, hosts), damaged: make([]bool, hosts)}
	known := make(map[int]HostStatus, len(seen))
	for _, h := range seen {
		known[h.HostID] = h
	}
	for id := 1; id <= hosts; id++ {
		if err := s.take(id, buf[geo.sector(id-1):geo.sector(id)], known[id]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// take joins the record of a host as it is now with what was observed of it.
func (s *Survey) take(id int, b []byte, seen HostStatus) error {
	st := &s.hosts[id-1]
	*st = HostStatus{HostID: id, State: HostUnknown}
	var l Leader
	if err := l.Decode(b); err != nil {
		return err
	}
	if err := l.verifyDelta(b, s.space); err != nil {
		s.damaged[id-1], s.highest = true, id
		if seen.State != "" {
			*st = seen
		}
		return nil
	}
	st.Name, st.Generation, st.Timestamp = l.Resource.String(), l.OwnerGeneration, l.Timestamp
	st.IOTimeout = time.Duration(l.IOTimeout&0xff) * time.Second
	switch {
	case l.Timestamp == 0 || l.OwnerID != uint64(id):
		st.State, st.Timestamp = HostFree, 0
		same := seen.Generation == l.OwnerGeneration && seen.Timestamp == 0
		st.Stood = same && seen.Stood || l.OwnerID != uint64(id)
		if seen.Generation > l.OwnerGeneration { // a free that landed after its host had come back: it may have blocks
			s.highest = id
		}
		return nil
	case seen.State == "", seen.State == HostUnknown && seen.Timestamp == 0: // never looked at
	case seen.Generation == l.OwnerGeneration && seen.Timestamp == l.Timestamp:
		*st = seen
	case seen.Looked <= (Profile{IOTimeout: st.IOTimeout}).Expiry():
		st.State = HostLive // it wrote since that look, which was not long ago
	}
	s.highest = id
	return nil
}

// Highest is the highest host id that is joined, or whose record is damaged. No host above it holds anything.
func (s *Survey) Highest() int { return s.highest }

// Host is what is known of a host id.
func (s *Survey) Host(id int) HostStatus {
	if id < 1 || id > len(s.hosts) {
		return HostStatus{HostID: id, State: HostUnknown}
	}
	return s.hosts[id-1]
}

// gone says whether a generation of a host has surely left the lockspace, or was replaced by a later one. It is what an acquire goes by,
// see departed: a record that was freed in an earlier generation must have stood still as well.
func (s *Survey) gone(id int, generation uint64) bool {
	if id < 1 || id > len(s.hosts) || s.damaged[id-1] {
		return false
	}
	h := s.hosts[id-1]
	return h.Generation > generation || h.State == HostFree && (h.Generation == generation || h.Stood)
}
