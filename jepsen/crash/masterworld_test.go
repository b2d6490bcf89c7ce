package crash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
)

// The change of a pool's master is explored on two domains, one behind the other on one recorded device.
const otherID = "9bdbc85e-e554-4ae0-b318-8a5465fe5fe2"

var pairIDs = [2]string{domainID, otherID}

// half is the LUN of one of the two domains.
func half(dev blockdev.Device, n int) blockdev.Device {
	l, err := blockdev.NewLinear(fmt.Sprint("half", n), []blockdev.Segment{{Dev: dev, Off: int64(n) * lunSize, Len: lunSize}})
	if err != nil {
		panic(err) // the numbers above are wrong
	}
	return l
}

func halfOf(id string) int {
	if id == otherID {
		return 1
	}
	return 0
}

// said is what Raft has, which survives the host: who is master, and the last epoch.
type said struct {
	master  string
	version int
	epoch   uint64
}

// pairAgent is one life of the one host, in both lockspaces.
type pairAgent struct {
	path     *path
	spaces   [2]*leases.Lockspace
	said     *said
	recorded func() // is told of a record
	role     *spm.Role
}

// startPair lets the host begin a life and serve. As the manager does, it asks again when the master is found to be another one.
func startPair(ctx context.Context, dev blockdev.Device, s *said, recorded func()) (*pairAgent, error) {
	a := &pairAgent{path: &path{Device: dev}, said: s, recorded: recorded}
	for n, id := range pairIDs {
		if err := a.join(ctx, n, id); err != nil {
			return nil, fmt.Errorf("joining %s: %w", id, err)
		}
	}
	var err error
	a.role, err = spm.New(spm.Config{Host: "alpha", HostID: 1, Pool: poolID, PoolName: "pool", Mirror: &mirror{}, Masters: a, Others: a})
	if err != nil {
		return nil, err
	}
	if err := a.serve(ctx); err != nil {
		a.crash(ctx)
		return nil, err
	}
	return a, nil
}

func (a *pairAgent) open(ctx context.Context, id string) (*domain.Domain, error) {
	return domain.Open(ctx, []blockdev.Device{half(a.path, halfOf(id))}, domainOptions())
}

func (a *pairAgent) join(ctx context.Context, n int, id string) error {
	d, err := a.open(ctx, id)
	if err != nil {
		return err
	}
	dev, off, err := d.Lockspace()
	if err != nil {
		return err
	}
	a.spaces[n], err = leases.Join(ctx, leases.LockspaceConfig{Device: dev, Offset: off, Name: id, HostID: 1, HostName: "alpha",
		Profile: profile, Clock: &clock.Virtual{Start: bubbleStart}, Log: slog.New(slog.DiscardHandler)})
	return err
}

// serve is the manager's part: start under the master that Raft names, until that holds.
func (a *pairAgent) serve(ctx context.Context) error {
	var last error
	for range 3 {
		m, err := a.Master(ctx, a.said.master)
		if err != nil {
			return err
		}
		info, err := m.Lease.Inspect(ctx)
		if err != nil {
			return fmt.Errorf("reading the SPM lease: %w", err)
		}
		rep, err := a.role.Start(ctx, spm.StartRequest{ExpectVersion: info.Version, Master: a.said.master, MasterVersion: a.said.version,
			MinEpoch: a.said.epoch + 1, Reason: "test"})
		if err == nil {
			if rep.Epoch <= a.said.epoch {
				return fmt.Errorf("serving under epoch %d after %d", rep.Epoch, a.said.epoch)
			}
			a.said.epoch = rep.Epoch
			return nil
		}
		if last = err; !errors.Is(err, spm.ErrMasterMoved) {
			break
		}
	}
	return fmt.Errorf("taking the role: %w", last)
}

// stop gives role and host ids up in order.
func (a *pairAgent) stop(ctx context.Context) error {
	if err := a.role.Close(ctx); err != nil {
		return fmt.Errorf("stopping the role: %w", err)
	}
	return errors.Join(a.spaces[0].Leave(ctx), a.spaces[1].Leave(ctx))
}

// crash ends the agent without another byte written.
func (a *pairAgent) crash(ctx context.Context) {
	a.path.cut.Store(true)
	_ = a.role.Close(ctx) // cannot release anything any more
}

// Present, Master, Confirm, Members, Record, Retire and Retired make it the role's Masters.
func (a *pairAgent) Present() string { return a.said.master }

func (a *pairAgent) Master(ctx context.Context, id string) (spm.Master, error) {
	d, err := a.open(ctx, id)
	if err != nil {
		return spm.Master{}, err
	}
	dev, off, err := d.SPMResource()
	if err != nil {
		return spm.Master{}, err
	}
	lease := &spmLease{ls: a.spaces[halfOf(id)], spec: leases.ResourceSpec{Name: "SDM", Device: dev, Offset: off, NoWait: true}}
	return spm.Master{ID: id, Lease: lease, Open: func(ctx context.Context) (spm.Domain, error) {
		d, err := a.open(ctx, id)
		return spm.Disk{Domain: d}, err
	}}, nil
}

// Version says nothing: of one host's masters none comes without it.
func (a *pairAgent) Version() int { return 0 }

// Confirm gives no answer: both lockspaces are held from before the start, so nobody need ask.
func (a *pairAgent) Confirm(context.Context) (spm.MasterRecord, error) {
	return spm.MasterRecord{}, errors.New("a host that never lost a lockspace asks who is master")
}

func (a *pairAgent) Members() []domain.MemberStatus {
	return []domain.MemberStatus{{ID: domainID, Status: domain.PoolActive}, {ID: otherID, Status: domain.PoolActive}}
}

func (a *pairAgent) Record(_ context.Context, c spm.MasterChange) (uint64, error) {
	if a.path.cut.Load() {
		return 0, blockdev.ErrGone // a host that is gone tells nobody
	}
	if a.said.master == c.From && a.said.version < c.Version {
		a.said.master, a.said.version = c.To, c.Version
		a.recorded()
	}
	if a.said.master != c.To {
		return 0, spm.ErrChanged
	}
	return 1, nil
}

func (a *pairAgent) Retire(string, time.Duration) {}
func (a *pairAgent) Retired(string) bool          { return false }

// List, Changed, Open and Held make it the role's Others.
func (a *pairAgent) List() []string           { return pairIDs[:] }
func (a *pairAgent) Changed() <-chan struct{} { return nil }
func (a *pairAgent) Open(ctx context.Context, id string) (spm.Domain, blockdev.Guard, error) {
	d, err := a.open(ctx, id)
	return spm.Disk{Domain: d}, inSpace{a.spaces[halfOf(id)]}, err
}

// Held is the generation of the host id.
func (a *pairAgent) Held(id string) uint64 {
	s := inSpace{a.spaces[halfOf(id)]}
	if s.Check(0) != nil {
		return 0
	}
	return s.Epoch()
}

// inSpace is the right of a host that has its id in a lockspace.
type inSpace struct{ *leases.Lockspace }

// Epoch is the generation.
func (s inSpace) Epoch() uint64 { return s.Generation() }
