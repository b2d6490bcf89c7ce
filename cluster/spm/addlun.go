package spm

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
)

// LUNRequest asks for a LUN to be made part of a domain.
type LUNRequest struct {
	Domain string     // UUID or name; empty: the master
	LUN    domain.LUN // opened on this host, and checked as far as this host's configuration goes
}

// LUNReply tells what the domain is with the LUN.
type LUNReply struct {
	Info     domain.Info
	Epoch    uint64
	Index    uint64 // Raft index of the mirror entry; 0 when not mirrored
	Mirrored bool   // false: on disk; the mirror follows
}

// lunTimeout bounds the adding of a LUN: it may have to be wiped, and every host is asked whether it sees it.
const lunTimeout = 50 * time.Second

// AddLUN makes a LUN part of a domain, on disk and in the mirror. When it fails with an error that does not match
// blockdev.ErrOutcomeUnknown, the domain is as it was.
func (r *Role) AddLUN(ctx context.Context, req LUNRequest) (LUNReply, error) {
	s, err := r.serving()
	if err != nil {
		return LUNReply{}, err
	}
	d, err := s.domain(ctx, req.Domain)
	if err != nil {
		return LUNReply{}, err
	}
	if err := d.enter(ctx); err != nil {
		return LUNReply{}, err
	}
	info, err := d.addLUN(ctx, req.LUN)
	if err != nil {
		return LUNReply{}, r.refine(d, err)
	}
	// The goroutine that describes may be at it with what it read before; it is told, and describes once more.
	queued := d.box.describe(s.epoch, d.seq(), d.description())
	d.touch()
	s.tell(fsm.Info, "domain.extended", d.id, "a LUN was added", fmt.Sprintf("LUN %s is part of domain %s now, which has %d bytes free of %d",
		req.LUN.Device.Name(), d.name, info.Free, info.Size))
	rep := LUNReply{Info: info, Epoch: s.epoch}
	rep.Index, rep.Mirrored = d.mirrored(ctx, queued)
	return rep, nil
}

// addLUN writes to the disk, as a request in flight. It does not hold the disk lock, which is about volumes.
func (d *served) addLUN(ctx context.Context, lun domain.LUN) (domain.Info, error) {
	defer d.leave()
	ctx, cancel := bind(ctx, d.ctx)
	defer cancel()
	ctx, cancel2 := context.WithTimeout(ctx, lunTimeout)
	defer cancel2()
	info, err := d.w.AddLUN(ctx, lun)
	if d.doubtful(err) {
		return d.addedAfterAll(ctx, lun, err)
	}
	return info, err
}

// addedAfterAll tells whether an addition with unknown outcome happened.
func (d *served) addedAfterAll(ctx context.Context, lun domain.LUN, cause error) (domain.Info, error) {
	if err := d.resolved(ctx, cause); err != nil {
		return domain.Info{}, err
	}
	if info := d.dom.Info(); slices.Contains(info.LUNs, lun.Device.Name()) {
		return info, nil
	}
	return domain.Info{}, fmt.Errorf("adding LUN %s: %w", lun.Device.Name(), ErrNotCommitted)
}
