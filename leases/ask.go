package leases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// asked is a request of ours that lies on disk.
type asked struct {
	spec    ResourceSpec
	request Request
	until   time.Duration
}

// Request asks the exclusive owner of a resource to give it up, through the storage alone: the request goes into the
// resource's area, and a bit in our own record tells the owner to look. lver is the version asked for, which can only be
// the next one; 0 stands for it. What the owner does is up to it: sanlock runs the holder's killpath or ends it
// (RequestGraceful) or kills it (RequestForce).
//
// A resource that can be had without asking is not asked for: the answer says so, and nothing was written. One that is
// held shared cannot be (ErrShared): sanlock daemons that share a resource end themselves over such a request. The record
// is cleared by ClearRequest, or by Settle after 6N or as soon as the owner gave way, or by Leave.
func (ls *Lockspace) Request(ctx context.Context, spec ResourceSpec, lver uint64, mode ForceMode) (ResourceInfo, error) {
	if mode != RequestForce && mode != RequestGraceful {
		return ResourceInfo{}, fmt.Errorf("resource %s: %w: mode %d", spec.Name, ErrRequest, mode)
	}
	info, err := ls.ReadResource(ctx, spec)
	if err != nil || info.Takeable {
		return info, err
	}
	switch {
	case !allDead(info.Sharers):
		return info, fmt.Errorf("resource %s: %w by %d hosts: they cannot be asked", spec.Name, ErrShared, len(info.Sharers))
	case info.Owner == ls.cfg.HostID:
		return info, fmt.Errorf("resource %s: %w", spec.Name, ErrHeldHere)
	case lver != 0 && lver != info.Version+1:
		return info, fmt.Errorf("resource %s: %w: version %d asked for, %d is the next", spec.Name, ErrRequest, lver, info.Version+1)
	}
	return info, ls.ask(ctx, spec, &info, mode)
}

// ask writes the request and takes it back at once if the owner changed meanwhile.
func (ls *Lockspace) ask(ctx context.Context, spec ResourceSpec, info *ResourceInfo, mode ForceMode) error {
	r, err := ls.viewer(spec)
	if err != nil {
		return err
	}
	found, err := r.readRequest(ctx)
	if err != nil {
		return err
	}
	req := Request{Magic: magicRequest, Version: versionRequest, Lver: info.Version + 1, ForceMode: mode}
	if found.Lver > req.Lver {
		return fmt.Errorf("resource %s: %w: version %d was asked for already, ClearRequest undoes that", spec.Name, ErrRequest, found.Lver)
	}
	ls.mu.Lock()
	ls.asked[r.key()] = asked{spec, req, ls.now() + ls.cfg.Profile.keepNotice()}
	ls.mu.Unlock()
	if found != req {
		if err := r.writeRequest(ctx, req); err != nil {
			return err
		}
	}
	now, err := r.readLeader(ctx)
	if err != nil {
		return err
	}
	if now.Lver != info.Version || now.Timestamp == 0 {
		return ls.ClearRequest(ctx, spec)
	}
	ls.askToLook(info.Owner)
	return nil
}

// ClearRequest takes a request back, or removes one that somebody else left. A request that replaced ours stays.
func (ls *Lockspace) ClearRequest(ctx context.Context, spec ResourceSpec) error {
	r, err := ls.viewer(spec)
	if err != nil {
		return err
	}
	ls.mu.Lock()
	ours, known := ls.asked[r.key()]
	ls.mu.Unlock()
	found, err := r.readRequest(ctx)
	if err != nil {
		return err
	}
	if found.Lver != 0 || found.ForceMode != RequestNone {
		if !known || found.Lver == ours.request.Lver && found.ForceMode == ours.request.ForceMode {
			err = r.writeRequest(ctx, Request{Magic: magicRequest, Version: versionRequest})
		}
	}
	if err != nil {
		return err
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.asked[r.key()] == ours {
		delete(ls.asked, r.key())
	}
	return nil
}

// ReadRequest reads what is asked for: one sector. It concerns the holder of version v when Pending(v).
func (ls *Lockspace) ReadRequest(ctx context.Context, spec ResourceSpec) (Request, error) {
	r, err := ls.viewer(spec)
	if err != nil {
		return Request{}, err
	}
	return r.readRequest(ctx)
}

// viewer is a resource for looking at, which no call holds.
func (ls *Lockspace) viewer(spec ResourceSpec) (*resource, error) {
	name, err := MakeName(spec.Name)
	if err != nil {
		return nil, fmt.Errorf("resource %w", err)
	}
	if spec.Device == nil {
		return nil, errors.New("resource needs a device")
	}
	if err := checkRange(spec.Device, spec.Offset, ls.geo); err != nil {
		return nil, fmt.Errorf("resource %s: %w", spec.Name, err)
	}
	return &resource{ls: ls, spec: spec, name: name, geo: ls.geo, sectors: firstRead / ls.geo.SectorSize}, nil
}

// key names a lease area within a lockspace.
func (r *resource) key() string { return fmt.Sprintf("%s@%d", r.spec.Name, r.spec.Offset) }

func (r *resource) readRequest(ctx context.Context) (Request, error) {
	var req Request
	buf := r.ls.getBuffer(r.geo.SectorSize)
	defer r.ls.putBuffer(buf)
	if err := r.readSector(ctx, 1, buf); err != nil {
		return req, fmt.Errorf("reading request for resource %s: %w", r.spec.Name, err)
	}
	if err := req.Decode(buf); err != nil {
		return req, fmt.Errorf("resource %s at %d on %s: %w", r.spec.Name, r.spec.Offset, r.spec.Device.Name(), err)
	}
	return req, nil
}

func (r *resource) writeRequest(ctx context.Context, req Request) error {
	buf := make([]byte, r.geo.SectorSize)
	req.Encode(buf)
	wctx, cancel, err := r.ls.usable(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if err := writeSync(wctx, r.spec.Device, buf, r.spec.Offset+r.geo.sector(1)); err != nil {
		return fmt.Errorf("writing request for resource %s: %w", r.spec.Name, err)
	}
	return nil
}

// settleRequests clears our requests that are over: the owner gave way, or had its time. A request that outlives the
// exclusive lease would be a danger to sanlock hosts that share it later.
func (ls *Lockspace) settleRequests(ctx context.Context) error {
	var errs []error
	for _, a := range ls.allAsked() {
		if over, err := ls.requestOver(ctx, &a); err != nil || !over {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, ls.ClearRequest(ctx, a.spec))
	}
	return errors.Join(errs...)
}

// dropRequests takes all our requests back: nobody would do so after us.
func (ls *Lockspace) dropRequests(ctx context.Context) {
	for _, a := range ls.allAsked() {
		if err := ls.ClearRequest(ctx, a.spec); err != nil {
			ls.cfg.Log.Warn("a request could not be taken back", "resource", a.spec.Name, "error", err)
		}
	}
}

// allAsked is our requests in the order of their places.
func (ls *Lockspace) allAsked() []asked {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var all []asked
	for _, a := range ls.asked {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b asked) int { return cmp.Compare(a.spec.Offset, b.spec.Offset) })
	return all
}

// requestOver says whether a request has done or missed its work, and none of its writes is still on its way.
func (ls *Lockspace) requestOver(ctx context.Context, a *asked) (bool, error) {
	if a.spec.Device.Pending() > 0 {
		return false, nil
	}
	if ls.now() >= a.until {
		return true, nil
	}
	r, err := ls.viewer(a.spec)
	if err != nil {
		return false, err
	}
	l, err := r.readLeader(ctx)
	return l.Lver >= a.request.Lver || l.Timestamp == 0, err
}

var _ blockdev.Guard = (*SharedLease)(nil)
