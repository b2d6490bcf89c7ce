package spm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// MasterRequest asks for another domain of the pool to become its master.
type MasterRequest struct {
	Domain string // UUID or name
	By     string
	Reason string
}

// MasterReply tells who is master then.
type MasterReply struct {
	Master   string        `json:"master"`
	Former   string        `json:"former,omitempty"` // empty: it was the master before
	Version  int           `json:"version"`
	Epoch    uint64        `json:"epoch"`
	Index    uint64        `json:"index"`    // Raft index of the record; 0 when not mirrored
	Mirrored bool          `json:"mirrored"` // false: on disk; the record follows, and until then both leases are held
	Took     time.Duration `json:"took_ns"`  // for which no domain was served
}

// copyTimeout bounds the copying of the master's file system, beside the requests.
const copyTimeout = 5 * time.Minute

// SetMaster makes another domain the pool's master. Both leases are held from before the first write until the cluster knows: nobody
// can write under the old one once the new one is in force. On failure either the old master is still in force, or the new one is
// and the next SPM finishes; the error says which, or that it is not known.
func (r *Role) SetMaster(ctx context.Context, req MasterRequest) (MasterReply, error) {
	if r.cfg.Masters == nil {
		return MasterReply{}, invalidf("the master of this pool cannot be changed")
	}
	s, err := r.serving()
	if err != nil {
		return MasterReply{}, err
	}
	d, err := s.domain(ctx, req.Domain)
	if err != nil {
		return MasterReply{}, err
	}
	if d == s.master {
		return MasterReply{Master: d.id, Version: d.dom.Master().Version, Epoch: s.epoch, Mirrored: true}, nil
	}
	if err := d.prepareMaster(ctx); err != nil {
		return MasterReply{}, err
	}
	rep, next, err := r.moveMaster(ctx, s, d, req)
	if err != nil {
		return rep, err
	}
	rep.Index, rep.Mirrored = next.awaitRecord(ctx)
	return rep, nil
}

// prepareMaster makes ready what a master has, while everything goes on: the mailbox is empty, and the volume master that of the
// present one. It is a request in flight of the domain.
func (d *served) prepareMaster(ctx context.Context) error {
	if i := d.dom.Info(); i.Class != "" && i.Class != "Data" {
		return invalidf("domain %s is of class %s: only data domains can be master", d.name, i.Class)
	}
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.leave()
	ctx, cancel := bind(ctx, d.ctx)
	defer cancel()
	ctx, cancel2 := context.WithTimeout(ctx, copyTimeout)
	defer cancel2()
	from, err := d.s.master.dom.Device("master")
	if err == nil {
		err = d.w.CopyMaster(ctx, from)
	}
	if err == nil {
		err = d.w.ClearMailbox(ctx)
	}
	if err != nil {
		return d.s.r.refine(d, fmt.Errorf("preparing domain %s to be master: %w", d.name, err))
	}
	return nil
}

// moveMaster is move in its turn among starts and stops.
func (r *Role) moveMaster(ctx context.Context, s *session, d *served, req MasterRequest) (MasterReply, *session, error) {
	if err := r.take(ctx); err != nil {
		return MasterReply{}, nil, err
	}
	defer r.give()
	r.mu.Lock()
	same := r.session == s && r.status.State == StateServing
	r.mu.Unlock()
	if !same || s.isShut() || d.ctx.Err() != nil {
		return MasterReply{}, nil, fmt.Errorf("changing the master: %w", ErrBusy)
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	v := &move{r: r, s: s, d: d, req: req, old: s.master.id}
	v.version = max(s.master.dom.Master().Version, d.dom.Master().Version, 0) + 1
	// What was begun is not left half done because whoever asked has gone.
	next, err := v.run(context.WithoutCancel(ctx))
	if err != nil {
		return MasterReply{}, nil, err
	}
	return MasterReply{Master: d.id, Former: v.old, Version: v.version, Epoch: next.epoch, Took: v.took}, next, nil
}

// move is one change of the master under way.
type move struct {
	r       *Role
	s       *session // under the old master
	d       *served  // the new one
	req     MasterRequest
	old     string
	version int
	next    Master
	epoch   uint64
	took    time.Duration
}

// run is the written order. Before the commit of the new master's keys a failure leaves the old master in force, after it the new one.
func (v *move) run(ctx context.Context) (*session, error) {
	if err := v.lease(ctx); err != nil {
		return nil, fmt.Errorf("master %s stays: %w", v.old, err)
	}
	if err := v.announce(ctx); err != nil {
		return nil, fmt.Errorf("master %s stays: %w", v.old, errors.Join(err, v.next.Lease.Release(ctx)))
	}
	begun := time.Now()
	v.quiet()
	if v.r.bug == bugEarlyRelease {
		_ = v.s.lease.Release(ctx)
	}
	if done, err := v.become(ctx); !done {
		return nil, v.abandon(ctx, err)
	}
	if v.r.bug != bugTwoMasters {
		if err := v.stepDown(ctx); err != nil {
			return nil, v.giveUp(fmt.Errorf("%s is the master now, and %s could not step down; the next SPM finishes that: %w", v.d.id, v.old, err))
		}
	}
	next, err := v.serve(ctx)
	v.took = time.Since(begun)
	return next, err
}

// lease takes the lease of the new master, with an epoch that follows on ours. No write of the preparation may be on its way.
func (v *move) lease(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, v.r.cfg.StepTimeout)
	defer cancel()
	if v.next, err = v.r.cfg.Masters.Master(ctx, v.d.id); err != nil {
		return err
	}
	if err := v.d.settled(ctx); err != nil {
		return err
	}
	v.epoch, err = v.next.Lease.Acquire(ctx, v.s.epoch+1)
	if err == nil && v.epoch <= v.s.epoch {
		err = fmt.Errorf("it was granted as version %d, after epoch %d: %w", v.epoch, v.s.epoch, ErrChanged)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("taking the SPM lease of domain %s: %w", v.d.name, err), v.next.Lease.Release(ctx))
	}
	return nil
}

// announce leaves the mark on the old master by which whoever comes next knows where to look.
func (v *move) announce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, v.r.cfg.StepTimeout)
	defer cancel()
	m := v.s.master
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.leave()
	err := m.w.AnnounceMaster(ctx, domain.NextMaster{Domain: v.d.id, Version: v.version})
	m.doubtful(err)
	return err
}

// quiet ends the serving of requests; both leases are held, and all writers still there.
func (v *move) quiet() {
	v.r.set(StateStopping, v.s.epoch, "the master moves to "+v.d.name)
	v.s.close()
	v.s.drain(v.r.cfg.DrainTimeout)
	v.s.flush(v.r.cfg.FlushTimeout)
}

// become commits the new master's keys. After an error it looks what is on the disk; false with an error that wraps
// blockdev.ErrOutcomeUnknown says that it cannot be told.
func (v *move) become(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, v.r.cfg.StepTimeout)
	defer cancel()
	if err := errors.Join(v.s.guard.Check(v.r.cfg.Need), v.next.Lease.Guard().Check(v.r.cfg.Need)); err != nil && v.r.bug == "" {
		return false, err
	}
	st := v.s.master.dom.Master()
	err := v.d.w.BecomeMaster(ctx, domain.MasterSpec{Pool: v.r.cfg.Pool, PoolName: st.PoolName, Version: v.version,
		Members: v.r.cfg.Masters.Members(), From: v.s.master.dom.Keys()})
	if err == nil {
		return true, nil
	}
	if look := v.reread(ctx, v.d); look != nil {
		return false, fmt.Errorf("%w: %w: %w", domain.ErrOutcomeUnknown, err, look)
	}
	now := v.d.dom.Master()
	return now.InForce(v.r.cfg.Pool) && now.Version == v.version, err
}

// reread makes a writer know what is on the disk, once nothing of ours can land there any more.
func (v *move) reread(ctx context.Context, d *served) error {
	if err := d.settled(ctx); err != nil {
		return err
	}
	_, err := d.w.Refresh(ctx)
	return err
}

// stepDown makes the old master a plain domain. Its mark stays until the cluster knows of the change.
func (v *move) stepDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, v.r.cfg.StepTimeout)
	defer cancel()
	err := v.s.master.w.StepDown(ctx)
	if err == nil || v.reread(ctx, v.s.master) != nil {
		return err
	}
	return v.s.master.w.StepDown(ctx) // commits nothing if it has happened
}

// abandon gives the role up after the new master did not come into force, or may not have. The mark is taken away if that is known.
func (v *move) abandon(ctx context.Context, cause error) error {
	if errors.Is(cause, domain.ErrOutcomeUnknown) {
		return v.giveUp(fmt.Errorf("whether %s or %s is the master is found out by the next SPM: %w", v.d.id, v.old, cause))
	}
	ctx, cancel := context.WithTimeout(ctx, v.r.cfg.StepTimeout)
	defer cancel()
	if err := v.s.master.w.AnnounceMaster(ctx, domain.NextMaster{}); err != nil {
		v.r.cfg.Log.Warn("the mark of a change of the master that failed stays; the next SPM takes it away", "domain", v.old, "err", err)
	}
	return v.giveUp(fmt.Errorf("master %s stays: %w", v.old, cause))
}

// giveUp ends the role in order. The next SPM finds out by the keys what is in force, and finishes or undoes.
func (v *move) giveUp(cause error) error {
	_, err := v.r.end(v.s, "changing the master failed: "+cause.Error(), 0, 0, v.next.Lease)
	return errors.Join(cause, err)
}

// serve ends the old session, without its lease, and begins one under the new master. Between them no write is on its way, so that
// what was begun under the old lease has ended when that is released.
func (v *move) serve(ctx context.Context) (*session, error) {
	v.s.cancel(errors.New("the master moved"))
	v.s.wg.Wait()
	if err := v.s.end(); err != nil {
		v.r.cfg.Log.Warn("closing the domains under the old master", "err", err)
	}
	guard := newMovingGuard(v.next.Lease.Guard(), v.s.guard)
	sctx, cancel := context.WithTimeout(ctx, v.r.cfg.ReleaseTimeout)
	defer cancel()
	err := v.r.settled(sctx)
	var next *session
	var rep StartReply
	if err == nil {
		next, rep, err = v.r.open(ctx, v.next, v.epoch, guard)
	}
	if err != nil {
		return nil, v.giveUp(fmt.Errorf("%s is the master now and could not be served; the next SPM finishes that: %w", v.d.id, err))
	}
	next.version = v.version
	next.inherit(v.s)
	next.former = &formerLease{lease: v.s.lease, guard: guard, recorded: make(chan struct{}),
		change: MasterChange{From: v.old, To: v.d.id, Version: v.version, By: v.req.By, Reason: v.req.Reason}}
	next.reconcile()
	v.r.serve(next, rep, "the master moved to "+v.d.name)
	return next, nil
}
