package spm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// StartRequest asks this host to take the role.
type StartRequest struct {
	// ExpectVersion is the version of the lease that the decision was made on; a lease that moved on refuses.
	ExpectVersion uint64 `json:"expect_version"`
	// Master is the domain whose lease that is; empty: whichever this host takes for the master.
	Master string `json:"master,omitempty"`
	// MasterVersion is the version of the master that the mirror knows; 0: none. With Assume the mirror's word makes the domain
	// master, since the last one was given up for lost.
	MasterVersion int  `json:"master_version,omitempty"`
	Assume        bool `json:"assume,omitempty"`
	// MinEpoch is the least epoch to serve under. The lease of a new master may have counted less than the last one's.
	MinEpoch uint64 `json:"min_epoch,omitempty"`
	Reason   string `json:"reason"`
}

// epoch is what the host serves under.
func (q StartRequest) epoch() uint64 { return max(q.ExpectVersion+1, q.MinEpoch) }

// StartReply tells the epoch that the host serves under.
type StartReply struct {
	Epoch     uint64                `json:"epoch"`
	Took      time.Duration         `json:"took_ns"` // from lease held to serving
	Volumes   int                   `json:"volumes"`
	Recovered domain.RecoveryReport `json:"recovered"`
}

// Start takes the lease, reads the disk, reconciles the mirror and serves. It is idempotent: a host that serves under
// the version after ExpectVersion says so.
func (r *Role) Start(ctx context.Context, req StartRequest) (StartReply, error) {
	if err := r.take(ctx); err != nil {
		return StartReply{}, err
	}
	defer r.give()
	if rep, done, err := r.already(req); done {
		return rep, err
	}
	r.set(StateStarting, 0, req.Reason)
	s, rep, err := r.begin(ctx, req)
	if err != nil {
		r.set(StateNone, 0, "start failed: "+err.Error())
		return StartReply{}, err
	}
	r.serve(s, rep, req.Reason)
	return rep, nil
}

// already answers a Start that has nothing to do. Caller has the turn.
func (r *Role) already(req StartRequest) (StartReply, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return StartReply{}, true, fmt.Errorf("the agent is stopping: %w", ErrBusy)
	case r.session == nil:
		return StartReply{}, false, nil
	case r.status.State == StateServing && r.session.epoch == req.epoch() && (req.Master == "" || req.Master == r.session.master.id):
		return StartReply{Epoch: r.session.epoch, Took: r.status.StartTook}, true, nil
	}
	return StartReply{}, true, fmt.Errorf("this host is already in the role (%s, epoch %d): %w", r.status.State, r.session.epoch, ErrChanged)
}

// begin does the steps from the lease to a session that may serve. On failure everything is given back.
func (r *Role) begin(ctx context.Context, req StartRequest) (*session, StartReply, error) {
	m, err := r.present(ctx, req)
	if err != nil {
		return nil, StartReply{}, err
	}
	before := r.holds()
	epoch, err := r.acquire(ctx, m.Lease, req)
	if err != nil {
		return nil, StartReply{}, err
	}
	held := time.Now()
	s, rep, err := r.open(ctx, m, epoch, m.Lease.Guard())
	if err == nil && r.cfg.Masters != nil {
		if err = r.settleMaster(ctx, s, req); err != nil {
			s.close()
			s.cancel(err)
			s.wg.Wait()
			err = errors.Join(err, s.end())
		}
	}
	if err != nil {
		return nil, StartReply{}, errors.Join(err, r.release(m.Lease))
	}
	s.version, s.held = max(s.master.dom.Master().Version, req.MasterVersion), before
	s.reconcile()
	rep.Epoch, rep.Took = epoch, time.Since(held)
	return s, rep, nil
}

// acquire takes the lease if it still is the one the decision was made on.
func (r *Role) acquire(ctx context.Context, lease Lease, req StartRequest) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.StepTimeout)
	defer cancel()
	info, err := lease.Inspect(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the SPM lease: %w", err)
	}
	if info.Version != req.ExpectVersion {
		return 0, fmt.Errorf("lease has version %d, decided on %d: %w", info.Version, req.ExpectVersion, ErrChanged)
	}
	epoch, err := lease.Acquire(ctx, req.MinEpoch)
	if err != nil {
		// A timed-out acquire may have been granted; what is not held is released without harm.
		return 0, errors.Join(fmt.Errorf("acquiring the SPM lease: %w", err), r.release(lease))
	}
	if epoch != req.epoch() {
		return 0, errors.Join(fmt.Errorf("lease granted as version %d, decided on %d: %w", epoch, req.ExpectVersion, ErrChanged), r.release(lease))
	}
	return epoch, nil
}

// open opens the master for writing and makes the session.
func (r *Role) open(ctx context.Context, m Master, epoch uint64, guard blockdev.Guard) (*session, StartReply, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.StepTimeout)
	defer cancel()
	if err := guard.Check(r.cfg.Need); err != nil {
		return nil, StartReply{}, fmt.Errorf("lease just acquired: %w", err)
	}
	if guard.Epoch() != epoch {
		return nil, StartReply{}, fmt.Errorf("the guard is for epoch %d, the lease is %d: %w", guard.Epoch(), epoch, ErrChanged)
	}
	dom, err := m.Open(ctx)
	if err != nil {
		return nil, StartReply{}, fmt.Errorf("opening the master domain: %w", err)
	}
	w, recovered, err := dom.BecomeWriter(ctx, guard)
	if err != nil {
		return nil, StartReply{}, fmt.Errorf("becoming the writer of the master domain: %w", err)
	}
	s := newSession(r, epoch, guard, m.Lease, dom, w)
	return s, StartReply{Volumes: dom.Info().Volumes, Recovered: recovered}, nil
}

// serve opens the gate.
func (r *Role) serve(s *session, rep StartReply, reason string) {
	r.mu.Lock()
	r.session = s
	r.status.StartTook = rep.Took
	r.setLocked(StateServing, s.epoch, reason)
	r.mu.Unlock()
	s.run()
}

// release frees leases, in this order, once no write of this host is on its way any more. What it cannot free is left to the next stop.
// Caller has the turn.
func (r *Role) release(list ...Lease) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.ReleaseTimeout)
	defer cancel()
	if err := r.settled(ctx); err != nil {
		r.left = append(r.left, list...)
		return err
	}
	var errs []error
	for _, l := range list {
		if err := l.Release(ctx); err != nil {
			r.left = append(r.left, l)
			errs = append(errs, fmt.Errorf("releasing the SPM lease: %w", err))
		}
	}
	return errors.Join(errs...)
}

// settled waits until every device call has come back.
func (r *Role) settled(ctx context.Context) error {
	return settle(ctx, r.cfg.Pending)
}
