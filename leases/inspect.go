package leases

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/blockdev"
)

// ResourceState is what a resource's area says.
type ResourceState string

// The states of a resource.
const (
	ResourceFree      ResourceState = "FREE"
	ResourceExclusive ResourceState = "EXCLUSIVE"
	ResourceShared    ResourceState = "SHARED"
)

// ResourceInfo is the state of a resource as one read found it, judged by what is known of its owner.
type ResourceInfo struct {
	State ResourceState `json:"state"`
	// Owner is the holder, or the last one when free; 0 when never taken.
	Owner      int    `json:"owner"`
	Generation uint64 `json:"generation"`
	// Version grows by one at every change of hands.
	Version        uint64 `json:"version"`
	Timestamp      uint64 `json:"timestamp"`
	WriteID        int    `json:"write_id"`
	WriteTimestamp uint64 `json:"write_timestamp"`
	NumHosts       int    `json:"num_hosts"`
	// OwnerStatus is the state of the owner's host id in the lockspace, as last looked at: perhaps before this generation.
	OwnerStatus HostStatus `json:"owner_status"`
	// Takeable says that an acquire now would not have to wait.
	Takeable bool `json:"takeable"`
	// ShortHold says that the exclusive owner is only about to share the resource.
	ShortHold bool `json:"short_hold,omitempty"`
	// Sharers have the resource shared. Hosts that left or lost their host id since are not listed, dead ones are.
	Sharers []Sharer `json:"sharers,omitempty"`
}

// Sharer is a host that has a resource shared.
type Sharer struct {
	HostID     int    `json:"host_id"`
	Generation uint64 `json:"generation"`
	// Status is the host's state in the lockspace.
	Status HostStatus `json:"status"`
	// Dead says that the next exclusive acquire clears it away.
	Dead bool `json:"dead"`
}

// ReadResource reads the state of a resource without changing anything.
func (ls *Lockspace) ReadResource(ctx context.Context, spec ResourceSpec) (ResourceInfo, error) {
	r, err := ls.viewer(spec)
	if err != nil {
		return ResourceInfo{}, err
	}
	buf, l, err := r.readArea(ctx)
	if err != nil {
		return ResourceInfo{}, err
	}
	defer ls.putBuffer(buf)
	info := infoOf(&l)
	blocks := make([]DBlock, l.NumHosts+1)
	for h := 1; h < len(blocks); h++ {
		if err := blocks[h].Decode(buf[ls.geo.sector(h+1):]); err != nil {
			return info, err
		}
	}
	if info.Sharers, err = ls.sharers(ctx, blocks); err != nil {
		return info, err
	}
	return info, ls.judge(ctx, &info, &l, blocks)
}

// sharers are the hosts that share a resource by what their blocks and their records say. A damaged record proves
// nothing, so its host still shares.
func (ls *Lockspace) sharers(ctx context.Context, blocks []DBlock) ([]Sharer, error) {
	var all []Sharer
	for h := range blocks {
		d := &blocks[h]
		if !d.Shared() || d.ModeGeneration == 0 {
			continue
		}
		rec, err := ls.readRecord(ctx, h)
		damaged := errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNoLease) || errors.Is(err, ErrVersion)
		if err != nil && !damaged {
			return nil, err
		}
		s := Sharer{HostID: h, Generation: d.ModeGeneration, Status: ls.HostStatus(h)}
		if err == nil {
			if ls.departed(h, &rec, d.ModeGeneration) {
				continue
			}
			s.Dead = ls.silentTooLong(h, &rec)
		}
		all = append(all, s)
	}
	return all, nil
}

// allDead says whether an exclusive acquire need not mind the sharers.
func allDead(all []Sharer) bool {
	return !slices.ContainsFunc(all, func(s Sharer) bool { return !s.Dead })
}

// infoOf is what the leader alone says.
func infoOf(l *Leader) ResourceInfo {
	return ResourceInfo{State: ResourceFree, Owner: int(l.OwnerID), Generation: l.OwnerGeneration, Version: l.Lver,
		Timestamp: l.Timestamp, WriteID: int(l.WriteID), WriteTimestamp: l.WriteTimestamp, NumHosts: int(l.NumHosts)}
}

// judge decides the state from the leader, the owner's block and the owner's host record as it is now.
func (ls *Lockspace) judge(ctx context.Context, info *ResourceInfo, l *Leader, blocks []DBlock) error {
	if l.OwnerID != 0 && l.OwnerID <= uint64(ls.geo.MaxHosts()) {
		info.OwnerStatus = ls.HostStatus(int(l.OwnerID))
	}
	held := l.Timestamp != 0 && l.OwnerID != 0
	if held && l.OwnerID < uint64(len(blocks)) && blocks[l.OwnerID].gaveUp(l) {
		held = false
	}
	dead := false
	if held {
		rec, err := ls.ownerRecord(ctx, l)
		if err != nil {
			return err
		}
		held = !ls.departed(int(l.OwnerID), &rec, l.OwnerGeneration)
		dead = ls.silentTooLong(int(l.OwnerID), &rec) // not by OwnerStatus: that may be of its life before
	}
	switch {
	case held:
		info.State, info.ShortHold = ResourceExclusive, l.Flags&flagShortHold != 0
		info.Takeable = dead && allDead(info.Sharers)
	case len(info.Sharers) > 0:
		info.State, info.Takeable = ResourceShared, allDead(info.Sharers)
	default:
		info.Takeable = true
	}
	return nil
}

// ownerRecord is the record of the owner's host id as it is now.
func (ls *Lockspace) ownerRecord(ctx context.Context, l *Leader) (Leader, error) {
	if l.OwnerID > uint64(ls.geo.MaxHosts()) {
		return Leader{}, fmt.Errorf("%w: owner %d", ErrCorrupt, l.OwnerID)
	}
	return ls.readRecord(ctx, int(l.OwnerID))
}

// ReadLeader reads and verifies the leader at off without any lockspace. It can tell the last owner and the version,
// but neither that the lease is held nor that it is free.
func ReadLeader(ctx context.Context, dev blockdev.Device, off int64, lockspace, resource string) (ResourceInfo, error) {
	space, err := MakeName(lockspace)
	if err != nil {
		return ResourceInfo{}, err
	}
	name, err := MakeName(resource)
	if err != nil {
		return ResourceInfo{}, err
	}
	buf := make([]byte, 4096)
	if err := dev.ReadAt(ctx, buf, off); err != nil {
		return ResourceInfo{}, fmt.Errorf("reading resource %s: %w", resource, err)
	}
	var l Leader
	if err := l.Decode(buf); err != nil {
		return ResourceInfo{}, err
	}
	if err := l.verifyResource(buf, space, name, 0); err != nil {
		return ResourceInfo{}, fmt.Errorf("resource %s at %d on %s: %w", resource, off, dev.Name(), err)
	}
	info := infoOf(&l)
	if info.Timestamp != 0 {
		info.State = ResourceExclusive
	}
	return info, nil
}
