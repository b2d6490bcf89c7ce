package crash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

const (
	domainID = "8adbc85e-e554-4ae0-b318-8a5465fe5fe1"
	poolID   = "5d928855-b09b-47a7-b920-bd2d2eb5808c"
	mib      = 1 << 20
	gib      = 1 << 30
	lunSize  = 16 * gib // sparse: what was never written costs nothing
	sector   = 512
)

// profile has long leases: nothing is renewed here, and virtual time passes only while a host joins.
var profile = leases.Compatible

// bubbleStart is before the time at which every synctest bubble begins.
var bubbleStart = time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)

var locks = host.Locks{IOTimeout: profile.IOTimeout}

// agent is one life of the one host: its host id in the lockspace, its SPM lease, and the role. The next life is the same
// host with the next generation, so that leases of the former one are free, as after a reboot.
type agent struct {
	path   *path
	ls     *leases.Lockspace
	role   *spm.Role
	epoch  uint64
	report domain.RecoveryReport
}

// domainOptions are those of an agent, with a clock that always says the same: equal histories are to give equal bytes.
func domainOptions() domain.Options {
	now := time.Unix(1700000000, 0)
	return domain.Options{Locks: locks, Leases: locks, IOTimeout: profile.IOTimeout, Now: func() time.Time { return now }, DeferWipes: true}
}

// startAgent does what an agent does that finds itself alone: it takes its host id and the SPM lease, recovers and serves.
func startAgent(ctx context.Context, dev blockdev.Device) (*agent, error) {
	a := &agent{path: &path{Device: dev}}
	lease, err := a.join(ctx)
	if err != nil {
		return nil, err
	}
	opt := domainOptions()
	opt.Volumes = volumeLeases{a.ls}
	a.role, err = spm.New(spm.Config{Host: "alpha", HostID: 1, Pool: poolID, Lease: lease, Mirror: &mirror{}, Leases: a.externalLeases,
		Open: func(ctx context.Context) (spm.Domain, error) {
			d, err := openDomain(ctx, a.path, opt)
			return spm.Disk{Domain: d}, err
		}})
	if err != nil {
		return nil, err
	}
	if err := a.serve(ctx, lease); err != nil {
		a.crash(ctx)
		return nil, err
	}
	return a, nil
}

// join takes the host id, and finds the SPM lease.
func (a *agent) join(ctx context.Context) (*spmLease, error) {
	d, err := openDomain(ctx, a.path, domainOptions())
	if err != nil {
		return nil, fmt.Errorf("opening the domain: %w", err)
	}
	dev, off, err := d.Lockspace()
	if err != nil {
		return nil, err
	}
	a.ls, err = leases.Join(ctx, leases.LockspaceConfig{Device: dev, Offset: off, Name: domainID, HostID: 1, HostName: "alpha",
		Profile: profile, Clock: &clock.Virtual{Start: bubbleStart}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("joining the lockspace: %w", err)
	}
	dev, off, err = d.SPMResource()
	return &spmLease{ls: a.ls, spec: leases.ResourceSpec{Name: "SDM", Device: dev, Offset: off, NoWait: true}}, err
}

// serve takes the role.
func (a *agent) serve(ctx context.Context, lease *spmLease) error {
	info, err := lease.Inspect(ctx)
	if err != nil {
		return fmt.Errorf("reading the SPM lease: %w", err)
	}
	rep, err := a.role.Start(ctx, spm.StartRequest{ExpectVersion: info.Version, Reason: "test"})
	if err != nil {
		return fmt.Errorf("taking the role: %w", err)
	}
	a.epoch, a.report = rep.Epoch, rep.Recovered
	return nil
}

// stop gives role and host id up in order.
func (a *agent) stop(ctx context.Context) error {
	if err := a.role.Close(ctx); err != nil {
		return fmt.Errorf("stopping the role: %w", err)
	}
	return a.ls.Leave(ctx)
}

// crash ends the agent without another byte written.
func (a *agent) crash(ctx context.Context) {
	a.path.cut.Store(true)
	_ = a.role.Close(ctx) // cannot release anything any more
}

// externalLeases opens them for a change, as the host does.
func (a *agent) externalLeases(_ context.Context, dom spm.Domain, g blockdev.Guard) (spm.ExternalLeases, error) {
	d := dom.(spm.Disk)
	dev, err := d.Device("xleases")
	if err != nil {
		return spm.ExternalLeases{}, err
	}
	v, err := externalLeases(blockdev.NewGuarded(dev, g))
	hosts := func(ctx context.Context) (*leases.Survey, error) {
		dev, off, err := d.Lockspace()
		if err != nil {
			return nil, err
		}
		return leases.ReadSurvey(ctx, dev, off, leases.Geometry512, domainID, leases.Geometry512.MaxHosts(), nil)
	}
	return spm.ExternalLeases{Volume: v, Hosts: hosts}, err
}

func externalLeases(dev blockdev.Device) (*xlease.Volume, error) {
	now := time.Unix(1700000000, 0)
	return xlease.New(xlease.Config{Device: dev, Lockspace: domainID, Geometry: leases.Geometry512, NumHosts: 250,
		IOTimeout: profile.IOTimeout, Now: func() time.Time { return now }})
}

// path is a host's way to the LUN, which a crash cuts.
type path struct {
	blockdev.Device
	cut atomic.Bool
}

func (p *path) on(f func() error) error {
	if p.cut.Load() {
		return blockdev.ErrGone
	}
	return f()
}

func (p *path) ReadAt(ctx context.Context, b []byte, off int64) error {
	return p.on(func() error { return p.Device.ReadAt(ctx, b, off) })
}

func (p *path) WriteAt(ctx context.Context, b []byte, off int64) error {
	return p.on(func() error { return p.Device.WriteAt(ctx, b, off) })
}

func (p *path) WriteZeroes(ctx context.Context, off, n int64) error {
	return p.on(func() error { return p.Device.WriteZeroes(ctx, off, n) })
}

func (p *path) Discard(ctx context.Context, off, n int64) error {
	return p.on(func() error { return p.Device.Discard(ctx, off, n) })
}

func (p *path) Flush(ctx context.Context) error {
	return p.on(func() error { return p.Device.Flush(ctx) })
}

// spmLease is the SPM lease on the LUN, held in this process instead of a keeper's.
type spmLease struct {
	ls   *leases.Lockspace
	spec leases.ResourceSpec
	held *leases.Lease
}

func (l *spmLease) Inspect(ctx context.Context) (spm.LeaseInfo, error) {
	info, err := l.ls.ReadResource(ctx, l.spec)
	return spm.LeaseInfo{Held: info.State != leases.ResourceFree, Owner: info.Owner, Generation: info.Generation, Version: info.Version}, err
}

func (l *spmLease) Acquire(ctx context.Context, least uint64) (uint64, error) {
	spec := l.spec
	spec.MinVersion = least
	held, err := l.ls.Acquire(ctx, spec)
	if err != nil {
		return 0, err
	}
	l.held = held
	return held.Epoch(), nil
}

func (l *spmLease) Release(ctx context.Context) error {
	if l.held == nil {
		return nil
	}
	held := l.held
	l.held = nil
	return held.Release(ctx)
}

func (l *spmLease) Guard() blockdev.Guard { return l.held }
func (l *spmLease) Done() <-chan struct{} { return nil }

// volumeLeases takes the leases of volumes in this process.
type volumeLeases struct{ ls *leases.Lockspace }

func (v volumeLeases) TakeVolume(ctx context.Context, l domain.VolumeLease) (domain.HeldVolume, error) {
	held, err := v.ls.Acquire(ctx, leases.ResourceSpec{Name: l.Volume, Device: l.Device, Offset: l.Offset, NoWait: true})
	if errors.Is(err, leases.ErrNoLease) {
		return nil, fmt.Errorf("%w: %w", domain.ErrNoVolumeLease, err)
	}
	if err != nil {
		return nil, err
	}
	return heldVolume{held}, nil
}

type heldVolume struct{ *leases.Lease }

// Abandon leaves the lease to the next life of the host: after a crash there is nobody who could give it back.
func (heldVolume) Abandon() {}

// mirror takes everything at once; the mirror is not what is explored here.
type mirror struct{ index atomic.Uint64 }

func (m *mirror) Serving(context.Context, uint64, domain.Info) (uint64, error) {
	return m.index.Add(1), nil
}

func (m *mirror) Describe(context.Context, uint64, uint64, spm.Description) (uint64, error) {
	return m.index.Add(1), nil
}

func (m *mirror) Put(context.Context, string, []domain.Volume) (uint64, error) {
	return m.index.Add(1), nil
}

func (m *mirror) Remove(context.Context, string, []domain.VolumeRemoved) (uint64, error) {
	return m.index.Add(1), nil
}

func (m *mirror) Replace(context.Context, string, uint64, uint64, []domain.Volume) (spm.Difference, error) {
	return spm.Difference{Index: m.index.Add(1)}, nil
}
