package spm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// Masters are the domains that are, were or may become the pool's master, as this host has them.
type Masters interface {
	// Present is the domain that this host takes for the master; empty: none.
	Present() string
	// Master is a domain that is open on this host, as one whose SPM lease can be taken.
	Master(ctx context.Context, id string) (Master, error)
	// Version is that of the pool's master as the mirror has it; it grows with every change of the master.
	Version() int
	// Confirm asks the cluster which domain is the master, and returns what is true after the call began. A master that somebody is about
	// to give up, by what was seen before the call, is not given up any more. An error: there is no answer.
	Confirm(ctx context.Context) (MasterRecord, error)
	// Members are the pool's domains as the mirror has them, for the keys of the master.
	Members() []domain.MemberStatus
	// Record makes known to the cluster which domain is the master, after it has become that on disk. A change that is recorded
	// already is no error; one that can never be recorded is ErrChanged.
	Record(ctx context.Context, c MasterChange) (uint64, error)
	// Retire is this host's word not to take the role on a master for so long, Retired whether it gave that.
	Retire(id string, d time.Duration)
	Retired(id string) bool
}

// Master is a domain whose SPM lease this host may take.
type Master struct {
	ID    string
	Lease Lease
	Open  func(ctx context.Context) (Domain, error)
}

// MasterChange is what the cluster is told of a new master.
type MasterChange struct {
	From, To string // UUIDs of the domains
	Version  int
	By       string // who asked for it
	Reason   string
}

// present is the master that a start is about.
func (r *Role) present(ctx context.Context, req StartRequest) (Master, error) {
	if r.cfg.Masters == nil {
		return Master{ID: req.Master, Lease: r.cfg.Lease, Open: r.cfg.Open}, nil
	}
	id := r.cfg.Masters.Present()
	switch {
	case id == "":
		return Master{}, errors.New("the pool's master is not open on this host")
	case req.Master != "" && req.Master != id:
		return Master{}, fmt.Errorf("this host takes %s for the master, the decision is about %s: %w", id, req.Master, ErrChanged)
	case r.cfg.Masters.Retired(id):
		return Master{}, fmt.Errorf("master %s: %w", id, ErrRetired)
	}
	return r.cfg.Masters.Master(ctx, id)
}

// releaseLeft releases the lease that a crashed start or stop may have left, and those of an earlier stop that could not be released: a
// change of the master has two.
func (r *Role) releaseLeft(ctx context.Context) error {
	list := r.left
	r.left = nil
	if m, err := r.present(ctx, StartRequest{}); err == nil && len(list) == 0 { // what is not open here is not held here
		list = []Lease{m.Lease}
	}
	return r.release(list...)
}

// RetireRequest asks a host for its word not to take the SPM role on a master that is about to be given up for lost.
type RetireRequest struct {
	Master string        `json:"master"`
	For    time.Duration `json:"for_ns"` // 0 gives the word back
}

// RetireReply is the word.
type RetireReply struct {
	Host string `json:"host"`
}

// maxRetired bounds for how long a host may be kept from the role.
const maxRetired = 10 * time.Minute

// Retire gives this host's word that it does not hold the SPM lease of a master, has no write under it on its way, and will
// not take it for a while. Nothing is read from the master, which may be gone.
func (r *Role) Retire(ctx context.Context, req RetireRequest) (RetireReply, error) {
	if r.cfg.Masters == nil || req.Master == "" || req.For < 0 || req.For > maxRetired {
		return RetireReply{}, invalidf("giving up master %q for %v", req.Master, req.For)
	}
	if err := r.take(ctx); err != nil {
		return RetireReply{}, err
	}
	defer r.give()
	if req.For == 0 {
		r.cfg.Masters.Retire(req.Master, 0)
		return RetireReply{Host: r.cfg.Host}, nil
	}
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	if s != nil && (s.master.id == req.Master || s.former != nil && !s.former.released.Load() && s.former.change.From == req.Master) {
		return RetireReply{}, fmt.Errorf("this host is in the SPM role under master %s: %w", req.Master, ErrBusy)
	}
	r.cfg.Masters.Retire(req.Master, req.For)
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReleaseTimeout)
	defer cancel()
	if err := r.settled(ctx); err != nil {
		return RetireReply{}, err
	}
	m, err := r.cfg.Masters.Master(ctx, req.Master)
	if err != nil {
		return RetireReply{Host: r.cfg.Host}, nil //nolint:nilerr // what is not open here is not held here
	}
	if err := m.Lease.Release(ctx); err != nil && m.Lease.Guard().Check(0) == nil {
		return RetireReply{}, fmt.Errorf("this host holds the SPM lease and cannot release it: %w", err)
	}
	return RetireReply{Host: r.cfg.Host}, nil
}
