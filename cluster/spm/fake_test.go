package spm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lun is the shared disk: one lease, one domain, and a log of who wrote what under which epoch.
type lun struct {
	id      string
	mu      sync.Mutex
	version uint64
	holder  int
	vols    map[string]domain.Volume
	writes  []uint64 // epoch of each commit
	hang    chan struct{}
	pending int
	next    error // of the next commit
	landed  bool  // whether the commit that fails with next lands all the same
	free    int64
	grown   []string // names of volumes in the order of their extensions
	readErr error
	// spaceErr is why no host has its id in the domain's lockspace; only a masterWorld looks at it.
	spaceErr error
	spaceGen uint64 // of our host id there; a masterWorld's

	keys      domain.MasterState
	keyWrites func(what, id string) error // before a change of the keys; an error that is errLanded lets it land
	luns      []string                    // added
	held      string                      // a volume that a guest uses
	finishing int                         // calls of FinishDeletes
	slowWipe  time.Duration               // how long one takes; the first one fails then
}

func newLUN() *lun {
	return &lun{id: "dom", version: 3, vols: map[string]domain.Volume{}, free: 1 << 40}
}

// hostLease is the lease as one host's keeper holds it.
type hostLease struct {
	l    *lun
	id   int
	done chan struct{}

	mu   sync.Mutex
	held uint64
	lost bool
}

func (h *hostLease) Inspect(context.Context) (LeaseInfo, error) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	return LeaseInfo{Held: h.l.holder != 0, Owner: h.l.holder, Generation: 1, Version: h.l.version}, nil
}

func (h *hostLease) Acquire(_ context.Context, least uint64) (uint64, error) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	if h.l.holder != 0 {
		return 0, fmt.Errorf("held by %d", h.l.holder)
	}
	h.l.holder = h.id
	h.l.version = max(h.l.version+1, least)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held, h.lost = h.l.version, false
	return h.l.version, nil
}

func (h *hostLease) Release(context.Context) error {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	if h.l.holder == h.id {
		h.l.holder = 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = 0
	return nil
}

func (h *hostLease) Guard() blockdev.Guard {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &hostGuard{h, h.held}
}
func (h *hostLease) Done() <-chan struct{} { return h.done }

func (h *hostLease) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = true
}

type hostGuard struct {
	h     *hostLease
	epoch uint64
}

func (g *hostGuard) Epoch() uint64 { return g.epoch }
func (g *hostGuard) Check(time.Duration) error {
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	if g.h.lost || g.h.held != g.epoch {
		return blockdev.ErrLeaseLost
	}
	return nil
}

// fakeDomain is the domain on a lun as one host opened it.
type fakeDomain struct {
	l *lun
	g blockdev.Guard

	mu     sync.Mutex
	seq    uint64
	closed bool
}

func (d *fakeDomain) Info() domain.Info {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	return domain.Info{UUID: d.l.id, Name: map[string]string{"dom": "data"}[d.l.id] + strings.TrimPrefix(d.l.id, "dom"), Volumes: len(d.l.vols), Size: 1 << 40, Free: d.l.free, Seqno: uint32(len(d.l.writes)), LUNs: slices.Clone(d.l.luns)}
}

func (d *fakeDomain) Volumes() []domain.Volume {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	return slices.Collect(maps.Values(d.l.vols))
}

func (d *fakeDomain) Volume(id string) (domain.Volume, bool) {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	v, ok := d.l.vols[id]
	return v, ok
}

func (d *fakeDomain) BecomeWriter(_ context.Context, g blockdev.Guard) (Writer, domain.RecoveryReport, error) {
	d.g = g
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	return d, domain.RecoveryReport{}, d.l.readErr
}

func (d *fakeDomain) Seq() uint64 { d.mu.Lock(); defer d.mu.Unlock(); return d.seq }

// commit is the one place that changes the lun.
func (d *fakeDomain) commit(ctx context.Context, fn func(seq uint64)) error {
	if err := d.g.Check(0); err != nil {
		return err
	}
	d.l.mu.Lock()
	hang := d.l.hang
	d.l.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return domain.ErrOutcomeUnknown
		}
	}
	if err := d.g.Check(0); err != nil {
		return err
	}
	d.mu.Lock()
	d.seq++
	seq := d.seq
	d.mu.Unlock()
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	err := d.l.next
	d.l.next = nil
	if err == nil || d.l.landed {
		fn(seq)
		d.l.writes = append(d.l.writes, d.g.Epoch())
	}
	return err
}

func (d *fakeDomain) Create(ctx context.Context, s domain.VolumeSpec) (domain.Volume, error) {
	d.l.mu.Lock()
	old, ok := d.l.vols[s.ID]
	free := d.l.free
	d.l.mu.Unlock()
	switch {
	case ok && old.Capacity == s.Capacity:
		return old, nil
	case ok:
		return old, domain.ErrConflict
	case s.Capacity > free:
		return old, domain.ErrFull
	}
	v := domain.Volume{ID: s.ID, Image: s.Image, Name: s.Name, Format: s.Format, Capacity: s.Capacity, State: domain.StateOK, VolType: domain.Leaf}
	err := d.commit(ctx, func(seq uint64) {
		v.Epoch, v.Seq = d.g.Epoch(), seq
		v.Parent = s.Parent
		d.l.vols[v.ID] = v
		d.parent(s.Parent, domain.Internal)
	})
	return v, err
}

func (d *fakeDomain) Snapshot(ctx context.Context, s domain.VolumeSpec) (domain.Volume, error) {
	d.l.mu.Lock()
	held := d.l.held
	d.l.mu.Unlock()
	if held == s.Parent {
		return domain.Volume{}, &domain.VolumeHeldError{Volume: held, Holder: "h2"}
	}
	return d.Create(ctx, s)
}

func (d *fakeDomain) AddLUN(ctx context.Context, lun domain.LUN) (domain.Info, error) {
	if lun.Seen != nil {
		if err := lun.Seen(ctx, "pv"); err != nil {
			return domain.Info{}, err
		}
	}
	err := d.commit(ctx, func(uint64) { d.l.luns = append(d.l.luns, lun.Device.Name()) })
	return d.Info(), err
}

func (d *fakeDomain) Update(ctx context.Context, id string, e domain.VolumeEdit) (domain.Volume, error) {
	d.l.mu.Lock()
	v, ok := d.l.vols[id]
	d.l.mu.Unlock()
	if !ok {
		return v, domain.ErrNotFound
	}
	err := d.commit(ctx, func(seq uint64) {
		v = d.l.vols[id]
		if e.Name != nil {
			v.Name = *e.Name
		}
		if e.Description != nil {
			v.Description = *e.Description
		}
		v.Epoch, v.Seq = d.g.Epoch(), seq
		v.Generation++
		d.l.vols[id] = v
	})
	return v, err
}

func (d *fakeDomain) Extend(ctx context.Context, id string, size int64) (domain.Volume, error) {
	d.l.mu.Lock()
	v, ok := d.l.vols[id]
	free := d.l.free
	d.l.mu.Unlock()
	switch more := size - v.AllocatedBytes; {
	case !ok:
		return v, domain.ErrNotFound
	case more <= 0:
		return v, nil
	case more > free:
		return v, &domain.NoSpaceError{Volume: id, Needed: more, Free: free}
	}
	err := d.commit(ctx, func(seq uint64) {
		v = d.l.vols[id]
		d.l.free -= size - v.AllocatedBytes
		v.AllocatedBytes, v.Epoch, v.Seq = size, d.g.Epoch(), seq
		d.l.vols[id] = v
		d.l.grown = append(d.l.grown, v.Name)
	})
	return v, err
}

func (d *fakeDomain) Remove(ctx context.Context, id string) (domain.VolumeRemoved, error) {
	r := domain.VolumeRemoved{ID: id, Epoch: d.g.Epoch()}
	err := d.commit(ctx, func(seq uint64) {
		r.Seq = seq
		d.parent(d.l.vols[id].Parent, domain.Leaf)
		d.l.free += d.l.vols[id].AllocatedBytes
		delete(d.l.vols, id)
	})
	return r, err
}

func (d *fakeDomain) Refresh(context.Context) (domain.RecoveryReport, error) {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	for id, v := range d.l.vols { // what is read anew carries no place
		v.Epoch, v.Seq = 0, 0
		d.l.vols[id] = v
	}
	return domain.RecoveryReport{}, d.l.readErr
}

// parent changes the type of a parent, as a change of its own. Caller holds l.mu.
func (d *fakeDomain) parent(id, volType string) {
	if p, ok := d.l.vols[id]; ok {
		d.mu.Lock()
		d.seq++
		p.VolType, p.Epoch, p.Seq = volType, d.g.Epoch(), d.seq
		d.mu.Unlock()
		d.l.vols[id] = p
	}
}

func (d *fakeDomain) FinishDeletes(ctx context.Context) (domain.RecoveryReport, error) {
	d.l.mu.Lock()
	d.l.finishing++
	n, slow := d.l.finishing, d.l.slowWipe
	d.l.mu.Unlock()
	switch {
	case slow == 0:
	case n == 1:
		return domain.RecoveryReport{}, errors.New("no answer from the LUN")
	case !sleep(ctx, slow):
		return domain.RecoveryReport{}, ctx.Err()
	default:
		return domain.RecoveryReport{Actions: []domain.Recovery{{Kind: domain.RecoveredWipe, Volume: "w"}}}, nil
	}
	return domain.RecoveryReport{}, nil
}

func (d *fakeDomain) Close() error { d.mu.Lock(); defer d.mu.Unlock(); d.closed = true; return nil }

// fakeMirror is Raft: with or without a quorum.
type fakeMirror struct {
	mu     sync.Mutex
	down   bool
	index  uint64
	vols   map[string]domain.Volume
	home   map[string]string // volume -> domain
	stale  int               // entries that came with an older place than the one before
	last   map[string]uint64 // domain -> highest seq
	sizes  int               // descriptions
	desc   Description       // the last one
	order  []string
	epochs []uint64
}

var errNoQuorum = errors.New("no quorum")

func (m *fakeMirror) do(fn func()) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return 0, errNoQuorum
	}
	m.index++
	if m.vols == nil {
		m.vols, m.home, m.last = map[string]domain.Volume{}, map[string]string{}, map[string]uint64{}
	}
	fn()
	return m.index, nil
}

func (m *fakeMirror) setDown(down bool) { m.mu.Lock(); defer m.mu.Unlock(); m.down = down }

func (m *fakeMirror) Serving(_ context.Context, epoch uint64, _ domain.Info) (uint64, error) {
	return m.do(func() { m.epochs = append(m.epochs, epoch) })
}
func (m *fakeMirror) Describe(_ context.Context, _, _ uint64, d Description) (uint64, error) {
	return m.do(func() { m.sizes++; m.desc = d })
}

// at notes the place of an entry; caller holds mu.
func (m *fakeMirror) at(domainID string, seq uint64) {
	if seq < m.last[domainID] {
		m.stale++
	}
	m.last[domainID] = max(m.last[domainID], seq)
}

func (m *fakeMirror) Put(_ context.Context, domainID string, vols []domain.Volume) (uint64, error) {
	return m.do(func() {
		for _, v := range vols {
			m.vols[v.ID], m.home[v.ID] = v, domainID
			m.at(domainID, v.Seq)
			m.order = append(m.order, v.Name)
		}
	})
}
func (m *fakeMirror) Remove(_ context.Context, _ string, gone []domain.VolumeRemoved) (uint64, error) {
	return m.do(func() {
		for _, g := range gone {
			delete(m.vols, g.ID)
		}
	})
}
func (m *fakeMirror) Replace(_ context.Context, domainID string, _, seq uint64, vols []domain.Volume) (Difference, error) {
	var d Difference
	i, err := m.do(func() {
		m.at(domainID, seq)
		maps.DeleteFunc(m.vols, func(id string, _ domain.Volume) bool { return m.home[id] == domainID })
		for _, v := range vols {
			m.vols[v.ID], m.home[v.ID] = v, domainID
		}
	})
	d.Index = i
	return d, err
}

// same reports whether mirror and lun hold the same volumes.
func (m *fakeMirror) same(l *lun) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for id := range m.vols {
		if m.home[id] == l.id {
			n++
		}
	}
	if n != len(l.vols) {
		return false
	}
	for id := range l.vols {
		if _, ok := m.vols[id]; !ok {
			return false
		}
	}
	return true
}

// newRole makes host id on l.
func newRole(t *testing.T, l *lun, m *fakeMirror, id int, change ...func(*Config)) (*Role, *hostLease) {
	t.Helper()
	h := &hostLease{l: l, id: id, done: make(chan struct{})}
	cfg := Config{
		Host: fmt.Sprintf("h%d", id), HostID: id, Pool: "11111111-2222-4333-8444-555555555555", Lease: h, Mirror: m,
		Open: func(context.Context) (Domain, error) { return &fakeDomain{l: l}, nil },
		Pending: func() int {
			l.mu.Lock()
			defer l.mu.Unlock()
			if id != 1 {
				return 0
			}
			return l.pending
		},
	}
	for _, fn := range change {
		fn(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = r.Close(ctx)
	})
	return r, h
}

// errLanded is an outcome that is not known of a write that did land.
var errLanded = fmt.Errorf("no answer, but it landed: %w", domain.ErrOutcomeUnknown)

// setKeys changes the keys, as commit does everything else.
func (d *fakeDomain) setKeys(ctx context.Context, what string, edit func(*domain.MasterState)) error {
	var failed error
	if d.l.keyWrites != nil {
		if failed = d.l.keyWrites(what, d.l.id); failed != nil && !errors.Is(failed, errLanded) {
			return failed
		}
	}
	if err := d.commit(ctx, func(uint64) { edit(&d.l.keys) }); err != nil {
		return err
	}
	return failed
}

func (d *fakeDomain) Master() domain.MasterState {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	return d.l.keys
}
func (d *fakeDomain) Keys() domain.Keys { return domain.Keys{} }
func (d *fakeDomain) Device(string) (blockdev.Device, error) {
	return nil, nil
}

func (d *fakeDomain) AnnounceMaster(ctx context.Context, next domain.NextMaster) error {
	if d.Master().Next == next {
		return nil
	}
	return d.setKeys(ctx, "announce", func(m *domain.MasterState) { m.Next = next })
}

func (d *fakeDomain) BecomeMaster(ctx context.Context, s domain.MasterSpec) error {
	return d.setKeys(ctx, "become", func(m *domain.MasterState) {
		*m = domain.MasterState{Master: true, Version: s.Version, Pools: []string{s.Pool}, PoolName: s.PoolName, Members: s.Members}
	})
}

func (d *fakeDomain) StepDown(ctx context.Context) error {
	if !d.Master().Master {
		return nil
	}
	return d.setKeys(ctx, "step down", func(m *domain.MasterState) { m.Master, m.Version = false, 0 })
}

func (d *fakeDomain) SetMembers(ctx context.Context, list []domain.MemberStatus) error {
	if slices.Equal(d.Master().Members, list) {
		return nil
	}
	return d.setKeys(ctx, "members", func(m *domain.MasterState) { m.Members = list })
}

func (d *fakeDomain) ClearMailbox(ctx context.Context) error {
	return d.setKeys(ctx, "clear", func(*domain.MasterState) {})
}
func (d *fakeDomain) CopyMaster(ctx context.Context, _ blockdev.Device) error {
	return d.setKeys(ctx, "copy", func(*domain.MasterState) {})
}
