package dm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// prepared is a holder that waits for its specification.
type prepared struct {
	mapper *Mapper
	volume attach.Volume
	child  attach.Child
	page   uint64 // inode of the page that it was given; 0: none
	start  uint64
	fresh  bool // the specification was sent, and what it makes is nobody's yet
}

func (p *prepared) closePipes() error {
	return errors.Join(p.child.Spec.Close(), p.child.Ready.Close())
}

// Process is the holder, which the keeper is told of together with its device.
func (p *prepared) Process() attach.Process {
	return attach.Process{PID: p.child.PID, StartTime: p.start, Device: p.volume.Device.UUID}
}

// Map tells the holder what to make, and waits until it is there.
func (p *prepared) Map(ctx context.Context, r attach.MapRequest) (attach.Mapping, error) {
	if err := p.samePage(); err != nil {
		return nil, err
	}
	v := r.Volume
	spec := Spec{Domain: v.Domain, Volume: v.ID, Device: v.Device, Segments: v.Segments, ReadOnly: r.ReadOnly, Again: r.Again,
		Control: p.mapper.socket(v.Domain, v.ID), Guard: r.Held.Guard}
	if err := spec.validate(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("start of the device's holder: %w", err)
	}
	p.fresh = !r.Again
	if err := p.send(ctx, b); err != nil {
		return nil, fmt.Errorf("start of the device's holder: %w", err)
	}
	return p.mapper.dial(ctx, attach.Record{Domain: v.Domain, Volume: v.ID, Process: p.Process(), Device: v.Device, Size: v.SizeBytes})
}

// send sends the specification and reads how the start went.
func (p *prepared) send(ctx context.Context, spec []byte) error {
	deadline, _ := ctx.Deadline() // none is no deadline for the pipe too
	if err := p.child.Ready.SetReadDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.child.Ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := p.child.Spec.Write(spec)
	if err = errors.Join(err, p.child.Spec.Close()); err != nil {
		return err
	}
	var first reply
	if err := errors.Join(readLine(p.child.Ready, &first), p.child.Ready.Close()); err != nil {
		return fmt.Errorf("it ended before it was ready: %w", err)
	}
	return first.err()
}

// samePage makes sure that the lease is published in the page that the process has: the keeper may be another one by now.
func (p *prepared) samePage() error {
	if p.page == 0 {
		return nil
	}
	now, err := p.mapper.cfg.Page()
	if err != nil {
		return err
	}
	defer now.Close()
	if n, err := attach.PageInode(now); err != nil || n != p.page {
		return errors.Join(fmt.Errorf("the keeper was replaced meanwhile: %w; try again", keeper.ErrGone), err)
	}
	return nil
}

// Cancel ends the holder by force. A device that it made for nobody goes; one that was frozen under its users stays so.
func (p *prepared) Cancel(ctx context.Context) error {
	_ = p.closePipes() // they may be closed already
	r := attach.Record{Process: p.Process()}
	if p.fresh {
		r.Device = p.volume.Device
		return p.mapper.Clear(ctx, r)
	}
	return p.mapper.End(ctx, r)
}
