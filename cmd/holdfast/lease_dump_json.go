package main

import (
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/direct"
)

// dumpedDevice is the JSON form of `lease dump`.
type dumpedDevice struct {
	Device      string         `json:"device"`
	VolumeGroup string         `json:"volume_group,omitempty"`
	Parts       []*dumpedPart  `json:"parts"`
	Damage      []dumpedDamage `json:"damage,omitempty"`
}

// dumpedPart is a volume, or the device itself when the volume is empty.
type dumpedPart struct {
	Volume     string         `json:"volume,omitempty"`
	Size       int64          `json:"size"`
	SectorSize int            `json:"sector_size"`
	AreaSize   int64          `json:"area_size"`
	Areas      []dumpedArea   `json:"areas"`
	Damage     []dumpedDamage `json:"damage,omitempty"`
}

// dumpedDamage says which bytes are wrong. Offsets count from the start of the part.
type dumpedDamage struct {
	Offset int64  `json:"offset"`
	Length int    `json:"length"`
	What   string `json:"what"`
}

// dumpedArea is a lockspace, a resource, or an index.
type dumpedArea struct {
	Kind      direct.Kind     `json:"kind"`
	Offset    int64           `json:"offset"`
	Lockspace string          `json:"lockspace"`
	Resource  *dumpedResource `json:"resource,omitempty"`
	Hosts     []dumpedHost    `json:"hosts,omitempty"`
	Entries   []dumpedEntry   `json:"entries,omitempty"`
}

// dumpedRecord is what the records of hosts and of resources have in common.
type dumpedRecord struct {
	Timestamp       uint64 `json:"timestamp"`
	OwnerID         uint64 `json:"owner_id"`
	OwnerGeneration uint64 `json:"owner_generation"`
	Checksum        uint32 `json:"checksum"`
	ChecksumOK      bool   `json:"checksum_ok"`
}

type dumpedHost struct {
	dumpedRecord
	Offset    int64        `json:"offset"`
	HostID    int          `json:"host_id"`
	Name      string       `json:"name"`
	IOTimeout uint16       `json:"io_timeout"`
	Notifies  []int        `json:"notifies,omitempty"`
	Event     *dumpedEvent `json:"event,omitempty"`
}

// dumpedEvent is the last event that a host sent.
type dumpedEvent struct {
	Generation uint64 `json:"generation"`
	Event      uint64 `json:"event"`
	Data       uint64 `json:"data"`
}

type dumpedResource struct {
	dumpedRecord
	Name            string        `json:"name"`
	Version         uint64        `json:"version"`
	NumHosts        uint64        `json:"num_hosts"`
	MaxHosts        uint64        `json:"max_hosts"`
	ShortHold       bool          `json:"short_hold,omitempty"`
	WriteID         uint64        `json:"write_id"`
	WriteGeneration uint64        `json:"write_generation"`
	WriteTimestamp  uint64        `json:"write_timestamp"`
	Request         dumpedRequest `json:"request"`
	Blocks          []dumpedBlock `json:"blocks,omitempty"`
}

type dumpedRequest struct {
	Version   uint64 `json:"version"`
	ForceMode uint32 `json:"force_mode"`
}

type dumpedBlock struct {
	HostID     int    `json:"host_id"`
	Offset     int64  `json:"offset"`
	Mbal       uint64 `json:"mbal"`
	Bal        uint64 `json:"bal"`
	Inp        uint64 `json:"inp"`
	Inp2       uint64 `json:"inp2"`
	Inp3       uint64 `json:"inp3"`
	Version    uint64 `json:"version"`
	Checksum   uint32 `json:"checksum"`
	ChecksumOK bool   `json:"checksum_ok"`
	Released   bool   `json:"released"`
	Shared     bool   `json:"shared"`
	Generation uint64 `json:"shared_generation,omitempty"`
}

type dumpedEntry struct {
	Slot     int    `json:"slot"`
	Offset   int64  `json:"offset"`
	Name     string `json:"name"`
	Resource uint64 `json:"resource_offset"`
}

// add takes an area into the report. Areas that hold nothing leave only their damage.
func (p *dumpedPart) add(a *direct.Area) {
	for _, w := range a.Damage {
		p.Damage = append(p.Damage, dumpedDamage{w.Offset, w.Length, w.What})
	}
	out := dumpedArea{Kind: a.Kind, Offset: a.Offset, Lockspace: a.Leader.Space.String()}
	switch a.Kind {
	case direct.KindOther:
		return
	case direct.KindLockspace:
		for i := range a.Hosts {
			out.Hosts = append(out.Hosts, hostOf(&a.Hosts[i]))
		}
	case direct.KindResource, direct.KindCleared:
		out.Resource = resourceOf(a)
	case direct.KindIndex:
		out.Lockspace = a.Index.Space.String()
		for _, e := range a.Entries {
			out.Entries = append(out.Entries, dumpedEntry{e.Slot, e.Offset, e.Entry.Name.String(), e.Entry.Offset})
		}
	case direct.KindVDSMIndex:
	}
	p.Areas = append(p.Areas, out)
}

func recordOf(l *leases.Leader) dumpedRecord {
	return dumpedRecord{l.Timestamp, l.OwnerID, l.OwnerGeneration, l.Checksum, l.Intact()}
}

func hostOf(h *direct.HostRecord) dumpedHost {
	l := &h.Leader
	out := dumpedHost{dumpedRecord: recordOf(l), Offset: h.Offset, HostID: h.Slot, Name: l.Resource.String(), IOTimeout: l.IOTimeout, Notifies: h.Bits}
	if l.WriteGeneration != 0 {
		out.Event = &dumpedEvent{Generation: l.WriteID, Event: l.WriteGeneration, Data: l.WriteTimestamp}
	}
	return out
}

func resourceOf(a *direct.Area) *dumpedResource {
	l := &a.Leader
	out := &dumpedResource{dumpedRecord: recordOf(l), Name: l.Resource.String(), Version: l.Lver, NumHosts: l.NumHosts, MaxHosts: l.MaxHosts,
		ShortHold: l.ShortHold(), WriteID: l.WriteID, WriteGeneration: l.WriteGeneration, WriteTimestamp: l.WriteTimestamp,
		Request: dumpedRequest{a.Request.Lver, uint32(a.Request.ForceMode)}}
	for i := range a.Blocks {
		h := &a.Blocks[i]
		b := &h.Block
		out.Blocks = append(out.Blocks, dumpedBlock{HostID: h.Host, Offset: h.Offset, Mbal: b.Mbal, Bal: b.Bal, Inp: b.Inp, Inp2: b.Inp2, Inp3: b.Inp3,
			Version: b.Lver, Checksum: b.Checksum, ChecksumOK: b.Valid(), Released: b.Released(), Shared: b.Shared(), Generation: b.ModeGeneration})
	}
	return out
}
