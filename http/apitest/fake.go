// Package apitest is a backend for tests of what stands on the API: a small pool of three hosts in memory.
package apitest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
)

// Fixed ids and times, so that outputs can be compared with files.
const (
	PoolID   = "6c1f0e0a-0b7e-4a5e-9b63-0d8f6f1f7a01"
	DomainID = "0f8a3c52-51d1-4f0e-8d2b-7d5a0f3f2b02"
	VolumeID = "a3b4c5d6-0000-4000-8000-000000000001"
	ImageID  = "b3b4c5d6-0000-4000-8000-000000000001"
)

// Now is the time in the pool.
var Now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// Fake implements every role. Err, when set, is what every call answers instead.
type Fake struct {
	mu      sync.Mutex
	err     error
	index   uint64
	moved   chan struct{} // closed when index grows
	volumes []api.Volume
	keys    map[string]api.VolumeCreated
	calls   int
	spm     api.SPM
	noisy   []api.Warning
	history []api.Event // oldest first
	lost    bool        // something was dropped from the history
	looks   int         // at the history
}

// New makes a pool with one domain and one volume.
func New() *Fake {
	return &Fake{
		index: 7, moved: make(chan struct{}), keys: map[string]api.VolumeCreated{},
		volumes: []api.Volume{{
			ID: VolumeID, Image: ImageID, Domain: DomainID, Name: "web1", Size: 10 << 30, Allocated: 1 << 30, Format: api.FormatQCOW2,
			Allocation: api.AllocationSparse, Legality: "legal", Type: "leaf", Epoch: 3, Created: Now.Add(-time.Hour),
		}},
		spm:     api.SPM{Host: "h1", HostID: 1, Epoch: 3, State: api.SPMServing, Since: Now.Add(-2 * time.Hour), Desired: "any"},
		history: []api.Event{firstEvent()},
	}
}

// Backend gives all roles, without a Forwarder.
func (f *Fake) Backend() httpapi.Backend {
	return httpapi.Backend{
		Mirror: f, Status: f, Hosts: f, Power: f, Fencing: f, Domains: f, Masters: f, Volumes: f, Attachments: f, Leases: f, Mailbox: f, SPM: f, Events: f, Operator: f, Tokens: f, Setup: f,
	}
}

// Fail makes every later call answer err; nil ends that.
func (f *Fake) Fail(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.err = err }

// Warn sets the warnings of the status.
func (f *Fake) Warn(w ...api.Warning) { f.mu.Lock(); defer f.mu.Unlock(); f.noisy = w }

// Creates says how many volumes were really made.
func (f *Fake) Creates() int { f.mu.Lock(); defer f.mu.Unlock(); return f.calls }

// Advance lets the mirror's index grow.
func (f *Fake) Advance() { f.mu.Lock(); defer f.mu.Unlock(); f.advance() }

func (f *Fake) advance() {
	f.index++
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *Fake) fail() error { f.mu.Lock(); defer f.mu.Unlock(); return f.err }

// Sync implements httpapi.Mirror.
func (f *Fake) Sync(ctx context.Context, _ bool, after uint64) (httpapi.Mark, error) {
	for {
		f.mu.Lock()
		index, moved := f.index, f.moved
		f.mu.Unlock()
		if index > after {
			return httpapi.Mark{Index: index, Age: 12 * time.Millisecond}, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return httpapi.Mark{}, ctx.Err()
		}
	}
}

// Status implements httpapi.Status.
func (f *Fake) Status(ctx context.Context) (api.Status, error) {
	hosts, err := f.Hosts(ctx)
	domains, _ := f.Domains(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.Status{
		Host: "h1", Version: "v0.1.0", Member: true, SPM: f.spm, Hosts: hosts, Domains: domains, Volumes: len(f.volumes),
		Pool:     api.Pool{ID: PoolID, Name: "prod", Master: DomainID, Profile: "fast", Created: Now.Add(-48 * time.Hour)},
		Raft:     api.Raft{Leader: "h2", State: "follower", Term: 4, Index: f.index, Voters: 3, Quorum: true},
		Warnings: f.noisy, Time: Now,
	}, err
}

// Health implements httpapi.Status.
func (f *Fake) Health(context.Context) api.Health {
	if err := f.fail(); err != nil {
		return api.Health{Host: "h1", Reason: err.Error()}
	}
	return api.Health{OK: true, Host: "h1", Member: true}
}

// Hosts implements httpapi.Hosts.
func (f *Fake) Hosts(context.Context) ([]api.Host, error) {
	var l []api.Host
	for i, name := range []string{"h1", "h2", "h3"} {
		n := strconv.Itoa(i + 1)
		l = append(l, api.Host{
			Name: name, HostID: i + 1, State: api.HostUp, Since: Now.Add(-3 * time.Hour), Address: "10.0.0." + n + ":7420",
			Gossip: "10.0.0." + n + ":7421", HTTP: "https://10.0.0." + n + ":7422", Generation: 2, Alive: true, SPM: i == 0, Leader: i == 1,
			Joined: Now.Add(-48 * time.Hour), Watchdog: api.WatchdogDevice, WatchdogTime: 60, Priority: 5,
			Witnesses: []api.Witness{
				{Kind: api.WitnessGossip, State: "alive", Since: Now.Add(-3 * time.Hour)},
				{Kind: api.WitnessLease, Subject: DomainID, State: "live", Since: Now.Add(-3 * time.Hour)},
				{Kind: api.WitnessRPC, State: "answers", Since: Now.Add(-3 * time.Hour)},
			},
		})
	}
	l[2].Witnesses[0].State, l[2].Witnesses[1].State, l[2].Witnesses[2].State = "failed", "fail", "silent"
	l[2].Watchdog, l[2].WatchdogTime, l[2].Unprotected = api.WatchdogNone, 0, true
	l[2].State, l[2].Reason, l[2].Alive = api.HostNonResponsive, "it does not answer, and nothing proves that it is dead", false
	l[2].Deadline = new(Now.Add(40 * time.Second))
	return l, f.fail()
}

// SetHost implements httpapi.Hosts.
func (f *Fake) SetHost(ctx context.Context, name string, req api.HostSet, _ string) (api.Host, error) {
	h, err := f.host(ctx, name)
	h.Priority = *req.Priority
	return h, err
}

// MaintainHost implements httpapi.Hosts. The SPM h1 has a volume attached, so it does not get there.
func (f *Fake) MaintainHost(ctx context.Context, name string, req api.HostMaintain, by string) (api.Host, error) {
	h, err := f.host(ctx, name)
	h.Wish = &api.HostWish{Want: api.HostMaintenance, By: by, Reason: req.Reason, Time: Now}
	h.State, h.Reason, h.Since = api.HostMaintenance, "wanted by "+by, Now
	if name == "h1" && !req.Force {
		h.State, h.Reason = api.HostPreparing, "waits for: attached volume web1 ("+VolumeID+")"
	}
	return h, err
}

// ActivateHost implements httpapi.Hosts.
func (f *Fake) ActivateHost(ctx context.Context, name string, _ api.HostActivate, _ string) (api.Host, error) {
	h, err := f.host(ctx, name)
	h.State, h.Reason, h.Since = api.HostUp, "it answers and is well", Now
	return h, err
}

func (f *Fake) host(ctx context.Context, name string) (api.Host, error) {
	l, err := f.Hosts(ctx)
	for _, h := range l {
		if h.Name == name {
			return h, err
		}
	}
	return api.Host{}, errors.Join(err, api.Errorf(api.CodeNotFound, "holdfast host list shows the hosts", "no host is called %q", name))
}

func domain() api.Domain {
	return api.Domain{
		ID: DomainID, Name: "san1", Type: "block", Role: "master", Status: "active", Version: 5, Size: 64 << 30, Free: 40 << 30,
		ExtentSize: 128 << 20, SectorSize: 512, LUNs: []string{"/dev/mapper/36001405a"}, Volumes: 1, Epoch: 3, WarnPercent: 10, CriticalFree: 5 << 30,
		Reason: "some hosts cannot reach it: h3: a LUN does not answer", Since: Now.Add(-time.Hour), Deadline: Now.Add(5 * time.Minute), FailingHosts: []string{"h3"},
	}
}

// Domains implements httpapi.Domains.
func (f *Fake) Domains(context.Context) ([]api.Domain, error) {
	return []api.Domain{domain()}, f.fail()
}

// CreateDomain implements httpapi.Domains.
func (f *Fake) CreateDomain(_ context.Context, req api.DomainCreate) (api.DomainCreated, error) {
	d := domain()
	d.Name, d.LUNs = req.Name, req.Devices
	return api.DomainCreated{Domain: d, Mirrored: true, Index: 8}, f.fail()
}

// ExtendDomain implements httpapi.Domains.
func (f *Fake) ExtendDomain(_ context.Context, _ string, req api.DomainExtend) (api.DomainExtended, error) {
	d := domain()
	d.LUNs = append(d.LUNs, req.LUN)
	d.Size, d.Free = 2*d.Size, d.Free+d.Size
	return api.DomainExtended{Domain: d, Mirrored: true, Index: 8}, f.fail()
}

// CheckDomain implements httpapi.Domains.
func (f *Fake) CheckDomain(_ context.Context, id string) (api.Check, error) {
	return api.Check{Domain: id, Findings: []api.Finding{{
		Severity: api.SeverityWarning, What: "volume without metadata", Where: "LV a3b4c5d6, slot 4", Repair: "delete the volume",
	}}}, f.fail()
}

// Volumes implements httpapi.Volumes.
func (f *Fake) Volumes(_ context.Context, q httpapi.VolumeFilter) ([]api.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := slices.Clone(f.volumes)
	return slices.DeleteFunc(l, func(v api.Volume) bool { return q.Image != "" && v.Image != q.Image }), f.err
}

// Volume implements httpapi.Volumes.
func (f *Fake) Volume(_ context.Context, ref string) (api.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.volumes {
		if v.ID == ref || v.Name == ref {
			return v, f.err
		}
	}
	return api.Volume{}, errors.Join(f.err, api.Errorf(api.CodeNotFound, "holdfast volume list shows the volumes", "no volume has the id or name %q", ref))
}

// CreateVolume implements httpapi.Volumes.
func (f *Fake) CreateVolume(_ context.Context, req api.VolumeCreate, key string) (api.VolumeCreated, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return api.VolumeCreated{}, f.err
	}
	if v, ok := f.keys[key]; ok {
		return v, nil
	}
	f.calls++
	f.advance()
	v := api.VolumeCreated{Mirrored: true, Index: f.index, Volume: f.volumes[0]}
	v.ID, v.Name, v.Size, v.Format, v.Allocation = "a3b4c5d6-0000-4000-8000-"+pad(f.calls+1), req.Name, req.Size, req.Format, req.Allocation
	v.Created = Now
	f.volumes = append(f.volumes, v.Volume)
	f.keys[key] = v
	return v, nil
}

func pad(n int) string {
	s := "00000000000" + strconv.Itoa(n)
	return s[len(s)-12:]
}

// UpdateVolume implements httpapi.Volumes.
func (f *Fake) UpdateVolume(ctx context.Context, ref string, req api.VolumeUpdate) (api.VolumeUpdated, error) {
	v, err := f.Volume(ctx, ref)
	if err != nil {
		return api.VolumeUpdated{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Name != nil {
		v.Name = *req.Name
	}
	if req.Description != nil {
		v.Description = *req.Description
	}
	for i := range f.volumes {
		if f.volumes[i].ID == v.ID {
			f.volumes[i] = v
		}
	}
	f.calls++
	f.advance()
	return api.VolumeUpdated{Volume: v, Mirrored: true, Index: f.index}, nil
}

// ExtendVolume implements httpapi.Volumes.
func (f *Fake) ExtendVolume(ctx context.Context, ref string, req api.VolumeExtend) (api.VolumeExtended, error) {
	v, err := f.Volume(ctx, ref)
	if err != nil {
		return api.VolumeExtended{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v.Allocated = max(v.Allocated, req.Size)
	for i := range f.volumes {
		if f.volumes[i].ID == v.ID {
			f.volumes[i] = v
		}
	}
	f.calls++
	f.advance()
	return api.VolumeExtended{Volume: v, Mirrored: true, Index: f.index}, nil
}

// SetDomain implements httpapi.Domains.
func (f *Fake) SetDomain(ctx context.Context, id string, req api.DomainSet) (api.Domain, error) {
	l, err := f.Domains(ctx)
	if err != nil {
		return api.Domain{}, err
	}
	d := l[0]
	if d.ID = id; req.WarnPercent != nil {
		d.WarnPercent = *req.WarnPercent
	}
	if req.CriticalFree != nil {
		d.CriticalFree = *req.CriticalFree
	}
	return d, nil
}

// Mailbox implements httpapi.Mailbox.
func (f *Fake) Mailbox(context.Context) (api.Mailbox, error) {
	return api.Mailbox{Domain: DomainID, Event: "0aec1d6e-6d2f-4f0a-8a5b-1f6f0e3f9b8d", Hosts: []api.MailboxHost{
		{HostID: 2, Host: "h2", Slots: []api.MailboxSlot{{Slot: 5, Host: api.MailboxSide{State: api.SlotMessage, Size: 3 << 30},
			SPM: api.MailboxSide{State: api.SlotEmpty}, Phase: "asked", Volume: VolumeID, Domain: DomainID}}},
		{HostID: 7, Error: "checksum of the page is 0x00000001, not 0x00000002"},
	}}, f.fail()
}

// DeleteVolume implements httpapi.Volumes.
func (f *Fake) DeleteVolume(ctx context.Context, ref string) (api.VolumeDeleted, error) {
	v, err := f.Volume(ctx, ref)
	if err != nil {
		return api.VolumeDeleted{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.volumes = slices.DeleteFunc(f.volumes, func(o api.Volume) bool { return o.ID == v.ID })
	f.advance()
	return api.VolumeDeleted{ID: v.ID, Domain: v.Domain, Name: v.Name, Epoch: 3, Mirrored: true, Index: f.index}, nil
}

// SnapshotImage implements httpapi.Volumes.
func (f *Fake) SnapshotImage(ctx context.Context, ref string, req api.ImageSnapshot, key string) (api.VolumeCreated, error) {
	leaf, err := f.Volume(ctx, ref)
	if err != nil {
		return api.VolumeCreated{}, err
	}
	v, err := f.CreateVolume(ctx, api.VolumeCreate{Name: cmp.Or(req.Name, leaf.Name), Size: leaf.Size, Format: leaf.Format, Allocation: leaf.Allocation}, key)
	if err != nil {
		return v, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v.Parent, v.Image = leaf.ID, leaf.Image
	for i := range f.volumes {
		switch f.volumes[i].ID {
		case leaf.ID:
			f.volumes[i].Type = "internal"
		case v.ID:
			f.volumes[i] = v.Volume
		}
	}
	f.keys[key] = v
	return v, nil
}

// SPM implements httpapi.SPM.
func (f *Fake) SPM(context.Context) (api.SPM, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.spm
	if s.Explained == nil && s.State == api.SPMServing {
		s.Explained = &api.SPMExplained{Leader: "h2", At: Now, Row: "live, serving", Why: "it holds the lease and serves",
			Chosen: "nobody holds the lease; h1 comes first of 2 hosts (reaches 1 of 1 active domains, priority 5)",
			Next:   []api.SPMHeir{{Host: "h2", Able: true, Why: "reaches 1 of 1 active domains, priority 5"}, {Host: "h3", Why: "does not answer"}},
			Moves:  []string{"somebody asks for it: holdfast spm move, or holdfast host maintenance h1"}}
	}
	return s, f.err
}

// Role sets what there is to say about the role.
func (f *Fake) Role(s api.SPM) { f.mu.Lock(); defer f.mu.Unlock(); f.spm = s }

// ConfirmRebooted implements httpapi.Hosts.
func (f *Fake) ConfirmRebooted(_ context.Context, name string, req api.HostConfirm, by string) (api.HostConfirmed, error) {
	if err := f.fail(); err != nil {
		return api.HostConfirmed{}, err
	}
	switch {
	case name != "h3":
		return api.HostConfirmed{}, api.Errorf(api.CodeNotFound, "holdfast host list shows the hosts", "no host is called %q", name)
	case !req.Force:
		return api.HostConfirmed{}, api.Errorf(api.CodeConflict, "wait until storage says otherwise", "storage says that %s is LIVE", name)
	}
	return api.HostConfirmed{Host: name, HostID: 3, Generation: 4, Reason: req.Reason, By: by, Forced: true,
		Lockspaces: []api.SpaceOutcome{{Domain: DomainID, Result: api.SpaceFreed}}}, nil
}

// RemoveHost implements httpapi.Hosts.
func (f *Fake) RemoveHost(_ context.Context, name string, req api.HostRemove, by string) (api.HostRemoved, error) {
	if err := f.fail(); err != nil {
		return api.HostRemoved{}, err
	}
	switch {
	case name != "h3":
		return api.HostRemoved{}, api.Errorf(api.CodeNotFound, "holdfast host list shows the hosts", "no host is called %q", name)
	case !req.Force:
		return api.HostRemoved{}, api.Errorf(api.CodeConflict, "wait until storage says otherwise", "storage says that %s is LIVE", name)
	}
	return api.HostRemoved{Host: name, HostID: 3, Generation: 4, Evidence: req.Reason, By: by, Forced: true,
		Lockspaces: []api.SpaceOutcome{{Domain: DomainID, Result: api.SpaceFreed}}}, nil
}

// MoveSPM implements httpapi.SPM.
func (f *Fake) MoveSPM(_ context.Context, req api.SPMMove, _ string) (api.SPM, error) {
	s := api.SPM{Host: "h2", HostID: 2, Epoch: 4, State: api.SPMServing, Since: Now, Reason: req.Reason, Desired: "any"}
	return s, f.fail()
}

// StopSPM implements httpapi.SPM.
func (f *Fake) StopSPM(_ context.Context, req api.SPMStop, _ string) (api.SPM, error) {
	return api.SPM{Epoch: 3, State: api.SPMNone, Since: Now, Reason: req.Reason, Desired: "stopped"}, f.fail()
}

// StartSPM implements httpapi.SPM.
func (f *Fake) StartSPM(context.Context, api.SPMStart, string) (api.SPM, error) {
	return api.SPM{Host: "h1", HostID: 1, Epoch: 4, State: api.SPMServing, Since: Now, Desired: "any"}, f.fail()
}

// RaftPeers implements httpapi.Operator.
func (f *Fake) RaftPeers(context.Context) ([]api.RaftPeer, error) {
	return []api.RaftPeer{
		{Name: "h1", Address: "10.0.0.1:7420", Voter: true},
		{Name: "h2", Address: "10.0.0.2:7420", Voter: true, Leader: true},
	}, f.fail()
}

// TransferLeadership implements httpapi.Operator.
func (f *Fake) TransferLeadership(ctx context.Context, _ api.RaftTransfer) ([]api.RaftPeer, error) {
	return f.RaftPeers(ctx)
}

func token(role string) api.Token {
	return api.Token{ID: "k7x2", Role: role, Expires: Now.Add(time.Hour)}
}

// Tokens implements httpapi.Tokens.
func (f *Fake) Tokens(context.Context) ([]api.Token, error) {
	used := token(api.RoleJoin)
	used.ID, used.UsedBy, used.UsedAt = "a1b2", "h2", Now.Add(-time.Hour)
	return []api.Token{token(api.RoleRead), used}, f.fail()
}

// CreateToken implements httpapi.Tokens.
func (f *Fake) CreateToken(_ context.Context, req api.TokenCreate) (api.TokenCreated, error) {
	return api.TokenCreated{Token: token(req.Role), Secret: "k7x2.secret.hash"}, f.fail()
}

// RevokeToken implements httpapi.Tokens.
func (f *Fake) RevokeToken(context.Context, string) error { return f.fail() }

// Init implements httpapi.Setup.
func (f *Fake) Init(_ context.Context, req api.Init) (api.Member, error) {
	m := api.Member{Host: "h1", HostID: 1, Pool: PoolID, Token: "k7x2.secret.hash"}
	if len(req.Devices) > 0 {
		m.Domain = DomainID
	}
	return m, f.fail()
}

// Join implements httpapi.Setup.
func (f *Fake) Join(context.Context, api.Join) (api.Member, error) {
	return api.Member{Host: "h4", HostID: 4, Pool: PoolID, Domain: DomainID}, f.fail()
}

// Leave implements httpapi.Setup.
func (f *Fake) Leave(context.Context, api.Leave) (api.Member, error) {
	return api.Member{Host: "h4", HostID: 4, Pool: PoolID, Left: true}, f.fail()
}
