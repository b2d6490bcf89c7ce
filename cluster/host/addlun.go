package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// ExtendRequest asks for a LUN to be added to a domain.
type ExtendRequest struct {
	Domain fsm.Domain
	LUN    string // path or URI
	Force  string // name of what may be destroyed, as the refusal gave it
}

// ErrLUNBusy says that the LUN is being added already, or that calls of an earlier attempt have not come back: what they write could
// land in the middle of another attempt.
var ErrLUNBusy = errors.New("the LUN is being added already, or calls of an earlier attempt have not come back")

// ExtendDomain adds a LUN to a domain. It runs on the SPM's host. Before anything is written to the LUN every host that is up must see
// it at its path, and before the domain changes, by the label that it has then.
func (h *Host) ExtendDomain(ctx context.Context, req ExtendRequest) (spm.LUNReply, error) {
	if err := h.allowed(req.LUN); err != nil {
		return spm.LUNReply{}, err
	}
	node, rt := h.Node(), h.runtime()
	if node == nil {
		return spm.LUNReply{}, cluster.ErrNotMember
	}
	if rt == nil {
		return spm.LUNReply{}, fmt.Errorf("%w: %w", ErrNotOpen, ErrNoStorage)
	}
	st := node.View()
	pool, ok := st.Pool()
	if !ok {
		return spm.LUNReply{}, manager.ErrNoPool
	}
	if _, err := h.epoch(pool); err != nil {
		return spm.LUNReply{}, err
	}
	l, ok := rt.domain(req.Domain.ID)
	if !ok {
		return spm.LUNReply{}, fmt.Errorf("domain %s: %w", req.Domain.ID, ErrNotOpen)
	}
	x := extension{rt: rt, l: l, req: req, calls: node, hosts: upHosts(st), domains: st.Domains.Values()}
	return x.run(ctx)
}

// extension is a LUN on its way into a domain.
type extension struct {
	rt      *runtime
	l       *luns
	req     ExtendRequest
	calls   caller
	hosts   []string // that are up
	domains []fsm.Domain
}

func (x *extension) run(ctx context.Context) (spm.LUNReply, error) {
	dev, err := x.open(ctx)
	if err != nil {
		return spm.LUNReply{}, err
	}
	see := SeeLUNRequest{Path: x.req.LUN, Size: dev.Size(), SectorSize: dev.SectorSize(), Profile: x.rt.profile.Name}
	member, err := x.check(ctx, dev)
	if err == nil && !member {
		err = askAll(ctx, x.calls, x.hosts, see)
	}
	var rep spm.LUNReply
	if err == nil {
		rep, err = x.rt.role.AddLUN(ctx, spm.LUNRequest{Domain: x.req.Domain.ID, LUN: domain.LUN{
			Device: dev, Hint: x.req.LUN, Force: x.req.Force,
			Seen: func(ctx context.Context, pv string) error {
				see.PV = pv
				return askAll(ctx, x.calls, x.hosts, see)
			},
		}})
	}
	if err == nil {
		x.l.learn(see.PV)
	}
	return rep, errors.Join(err, x.l.settle(dev, err))
}

// open opens the LUN, so that its calls count until they have come back.
func (x *extension) open(ctx context.Context) (blockdev.Device, error) {
	if err := x.rt.notJoining(x.req.LUN); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	devs, err := openLUNs(ctx, []string{x.req.LUN}, x.rt.profile)
	if err != nil {
		return nil, err
	}
	x.l.mu.Lock()
	defer x.l.mu.Unlock()
	x.l.joining = append(x.l.joining, joiningLUN{Device: devs[0], active: true})
	return devs[0], nil
}

// check refuses LUNs that other domains of the pool use, and tells whether this one does: then its writer refuses.
func (x *extension) check(ctx context.Context, dev blockdev.Device) (member bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	others := slices.DeleteFunc(slices.Clone(x.domains), func(d fsm.Domain) bool { return d.ID == x.req.Domain.ID })
	if err := refuseOwn(ctx, others, []blockdev.Device{dev}); err != nil {
		return false, err
	}
	if err := x.rt.refusePV(ctx, dev, x.l); err != nil {
		return false, err
	}
	info, err := lvm2.Inspect(ctx, dev)
	return err == nil && slices.Contains(x.l.physical(), info.ID), nil
}

// refusePV refuses a LUN that is a physical volume of a domain that is open here, other than except. Only the first LUN of a domain
// says itself which domain that is.
func (rt *runtime) refusePV(ctx context.Context, dev blockdev.Device, except *luns) error {
	info, err := lvm2.Inspect(ctx, dev)
	if err != nil {
		return nil //nolint:nilerr // no physical volume, or one that cannot be told from others
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, l := range rt.domains {
		if l != except && slices.Contains(l.physical(), info.ID) {
			return fmt.Errorf("%s, domain %s (%s): %w", dev.Name(), l.name, l.id, ErrOwnLUN)
		}
	}
	return nil
}

// physical are the ids of the physical volumes.
func (l *luns) physical() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pvs
}

// learn notes a further physical volume.
func (l *luns) learn(pv string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.pvs, pv) {
		l.pvs = append(slices.Clip(l.pvs), pv)
	}
}

// joiningLUN is a device on its way into a domain, or one that had calls out when that failed.
type joiningLUN struct {
	blockdev.Device
	active bool
}

// notJoining refuses a LUN that is on its way into a domain, or still has calls out from an earlier attempt.
func (rt *runtime) notJoining(path string) error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, l := range rt.domains {
		if err := l.notJoining(path); err != nil {
			return fmt.Errorf("%s, domain %s: %w", path, l.name, err)
		}
	}
	return nil
}

// notJoining closes what has settled, and tells whether the LUN is among the rest.
func (l *luns) notJoining(path string) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rest []joiningLUN
	for _, j := range l.joining {
		if !j.active && j.Pending() == 0 {
			err = errors.Join(err, j.Close())
			continue
		}
		rest = append(rest, j)
		if sameLUN(j.Name(), path) {
			err = errors.Join(err, ErrLUNBusy)
		}
	}
	l.joining = rest
	return err
}

// settle makes the LUN one of the domain's, or closes it. One with calls that have not come back stays open. So does one of which it is
// not known whether it is part of the domain: it has its label, and a reader does not mind one that is not.
func (l *luns) settle(dev blockdev.Device, err error) error {
	if err == nil || errors.Is(err, blockdev.ErrOutcomeUnknown) {
		l.add(dev)
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.joining {
		switch {
		case l.joining[i].Device != dev:
		case dev.Pending() > 0:
			l.joining[i].active = false
			return nil
		default:
			l.joining = slices.Delete(l.joining, i, i+1)
			return dev.Close()
		}
	}
	return nil
}

// growing tells whether a LUN is on its way into the domain.
func (l *luns) growing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.joining, func(j joiningLUN) bool { return j.active })
}
