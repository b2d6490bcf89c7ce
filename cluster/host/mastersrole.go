package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// masters are the domains as possible masters, for the SPM role.
type masters struct{ rt *runtime }

// Present is the master by the mirror, once it is open here.
func (m masters) Present() string {
	id := m.rt.pool().Master
	if _, open := m.rt.domain(id); !open {
		return ""
	}
	return id
}

// Master is a domain that is open here.
func (m masters) Master(_ context.Context, id string) (spm.Master, error) {
	l, ok := m.rt.domain(id)
	if !ok {
		return spm.Master{}, fmt.Errorf("domain %s is not open on this host", id)
	}
	return spm.Master{ID: id, Lease: spm.KeeperLease{Keeper: m.rt.keeper, Spec: l.spm}, Open: func(ctx context.Context) (spm.Domain, error) {
		disk, err := l.read(ctx)
		if err != nil {
			return nil, err
		}
		return spm.Disk{Domain: disk}, nil
	}}, nil
}

// Version is that of the mirror's master.
func (m masters) Version() int { return m.rt.pool().MasterVersion }

// Confirm commits a mark of this host's, and returns what the mirror says once it has that. A master that is given up by a view from
// before the mark is refused by the mark (fsm.PoolMaster), and one that was given up before it the mirror has.
func (m masters) Confirm(ctx context.Context) (spm.MasterRecord, error) {
	out, err := m.rt.node.Apply(ctx, &fsm.ConfigSet{Key: fsm.ConfigMasterConfirmed, Value: m.rt.self.Name + " " + uuid.NewString()})
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return spm.MasterRecord{}, err
	}
	st, err := m.rt.node.WaitIndex(ctx, out.Index)
	if err != nil {
		return spm.MasterRecord{}, err
	}
	pool, ok := st.Pool()
	if !ok {
		return spm.MasterRecord{}, fmt.Errorf("no pool: %w", fsm.ErrNotFound)
	}
	return spm.MasterRecord{Domain: pool.Master, Version: pool.MasterVersion}, nil
}

// Members are the mirror's domains.
func (m masters) Members() []domain.MemberStatus {
	return spm.MembersOf(m.rt.node.View().Domains.Values())
}

// Record commits that the pool has another master.
func (m masters) Record(ctx context.Context, c spm.MasterChange) (uint64, error) {
	out, err := m.rt.node.Apply(ctx, &fsm.PoolMaster{Pool: m.rt.poolID, Master: c.To, Expect: c.From, MasterVersion: c.Version,
		Host: m.rt.self.Name, By: c.By, Reason: c.Reason, Force: true, Time: time.Now().UnixNano()})
	if err != nil {
		return 0, err
	}
	if err := out.Err(); err != nil {
		return 0, fmt.Errorf("%w: %w", spm.ErrChanged, err)
	}
	return out.Index, nil
}

// Retire gives this host's word, Retired says whether it is given.
func (m masters) Retire(id string, d time.Duration) { m.rt.cfg.retired.add(id, d) }

// Retired says whether this host gave its word.
func (m masters) Retired(id string) bool { return m.rt.cfg.retired.has(id) }

// SetMaster makes another domain of the pool its master. It runs on the SPM's host.
func (h *Host) SetMaster(ctx context.Context, d fsm.Domain, by, reason string) (spm.MasterReply, error) {
	node := h.Node()
	if node == nil {
		return spm.MasterReply{}, cluster.ErrNotMember
	}
	role := h.Role()
	if role == nil {
		return spm.MasterReply{}, ErrNoStorage
	}
	switch d.CurrentStatus() {
	case fsm.DomainActive, fsm.DomainUnknown:
	default:
		return spm.MasterReply{}, fmt.Errorf("domain %s is %s and cannot become the master; activate it first: %w", d.Name, d.CurrentStatus(), fsm.ErrConflict)
	}
	rep, err := role.SetMaster(ctx, spm.MasterRequest{Domain: d.ID, By: by, Reason: reason})
	if errors.Is(err, spm.ErrNoDomain) {
		err = fmt.Errorf("the SPM does not serve domain %s yet: %w", d.Name, err)
	}
	if err == nil && rep.Index > 0 {
		_, _ = node.WaitIndex(ctx, rep.Index) // so that whoever asked here sees it here
	}
	return rep, err
}
