package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
)

// backend answers the API from one host's parts. It holds no state of its own; what it cannot answer yet because the
// host is no member, or its storage is not up, it refuses with a reason.
type backend struct {
	host     *host.Host
	attached *attach.Manager
	log      *slog.Logger
}

// roles are the roles of the API that a backend plays.
func (b *backend) roles() httpapi.Backend {
	return httpapi.Backend{
		Mirror: b, Status: b, Hosts: b, Power: b, Fencing: b, Domains: b, Masters: b, Volumes: b, Attachments: b, Leases: leaseBackend{b}, Mailbox: b, SPM: b, Events: b, Operator: b, Tokens: b, Setup: b,
		Forwarder: forwarder{b},
	}
}

// node is this host's membership.
func (b *backend) node() (*cluster.Node, error) {
	n := b.host.Node()
	if n == nil {
		return nil, api.Errorf(api.CodeNotMember, "holdfast init on the first host, holdfast join on every other",
			"this host belongs to no cluster yet")
	}
	return n, nil
}

// state is the mirror of this host.
func (b *backend) state() (*fsm.State, error) {
	n, err := b.node()
	if err != nil {
		return nil, err
	}
	return n.View(), nil
}

// pool is the cluster's pool.
func (b *backend) pool() (*fsm.State, fsm.Pool, error) {
	st, err := b.state()
	if err != nil {
		return nil, fsm.Pool{}, err
	}
	p, ok := st.Pool()
	if !ok {
		return nil, fsm.Pool{}, api.Errorf(api.CodeNoPool, "holdfast init makes the pool", "the cluster has no pool yet")
	}
	return st, p, nil
}

// role is this host's part in the SPM role.
func (b *backend) role() (*spm.Role, error) {
	r := b.host.Role()
	if r == nil {
		return nil, api.Errorf(api.CodeNotSPM, "send the request to the SPM", "this host's storage is not up")
	}
	return r, nil
}

// CreateVolume makes a volume; it runs on the SPM.
func (b *backend) CreateVolume(ctx context.Context, req api.VolumeCreate, key string) (api.VolumeCreated, error) {
	st, _, err := b.pool()
	if err != nil {
		return api.VolumeCreated{}, err
	}
	r, err := b.role()
	if err != nil {
		return api.VolumeCreated{}, err
	}
	if err := parentThere(r, st, req.Parent); err != nil {
		return api.VolumeCreated{}, err
	}
	if req.Domain, err = domainToServe(st, req.Domain); err != nil {
		return api.VolumeCreated{}, err
	}
	rep, err := r.CreateVolume(ctx, spm.CreateRequest{
		Key: key, Domain: req.Domain, Name: req.Name, Description: req.Description, Size: req.Size, Format: req.Format,
		Allocation: req.Allocation, Image: req.Image, Parent: req.Parent, InitialSize: req.InitialSize,
	})
	if err != nil {
		return api.VolumeCreated{}, apiError(err)
	}
	out := api.VolumeCreated{Volume: apiVolume(spm.MirrorVolume(rep.Domain, rep.Volume)), Mirrored: rep.Mirrored, Index: rep.Index}
	out.Epoch = rep.Epoch
	return out, nil
}

// parentThere refuses a parent that is neither on the disks that this host serves nor in its mirror, which may be behind.
func parentThere(r *spm.Role, st *fsm.State, id string) error {
	if id == "" {
		return nil
	}
	vols, err := r.Volumes()
	if err != nil {
		return apiError(err)
	}
	if slices.ContainsFunc(vols, func(v domain.Volume) bool { return v.ID == id }) {
		return nil
	}
	_, err = findVolume(st, id)
	return err
}

// domainToServe is a domain as the role is to look for it. One that the mirror, which may be behind, does not know yet is
// handed on as it is: the role knows what it serves.
func domainToServe(st *fsm.State, idOrName string) (string, error) {
	id, err := domainID(st, idOrName)
	var e *api.Error
	if errors.As(err, &e) && e.Code == api.CodeNotFound {
		return idOrName, nil
	}
	return id, err
}

// UpdateVolume changes name or description of a volume; it runs on the SPM.
func (b *backend) UpdateVolume(ctx context.Context, idOrName string, req api.VolumeUpdate) (api.VolumeUpdated, error) {
	r, err := b.role()
	if err != nil {
		return api.VolumeUpdated{}, err
	}
	id, dom, err := b.volumeToChange(r, idOrName)
	if err != nil {
		return api.VolumeUpdated{}, err
	}
	rep, err := r.UpdateVolume(ctx, dom, id, domain.VolumeEdit{Name: req.Name, Description: req.Description})
	if err != nil {
		return api.VolumeUpdated{}, apiError(err)
	}
	out := api.VolumeUpdated{Volume: apiVolume(spm.MirrorVolume(rep.Domain, rep.Volume)), Mirrored: rep.Mirrored, Index: rep.Index}
	out.Epoch = rep.Epoch
	return out, nil
}

// DeleteVolume removes a volume; it runs on the SPM.
func (b *backend) DeleteVolume(ctx context.Context, idOrName string) (api.VolumeDeleted, error) {
	r, err := b.role()
	if err != nil {
		return api.VolumeDeleted{}, err
	}
	id, dom, err := b.volumeToChange(r, idOrName)
	if err != nil {
		return api.VolumeDeleted{}, err
	}
	rep, err := r.DeleteVolume(ctx, dom, id)
	if err != nil {
		return api.VolumeDeleted{}, apiError(err)
	}
	return api.VolumeDeleted{ID: rep.Volume.ID, Domain: rep.Domain, Name: rep.Volume.Name, Epoch: rep.Epoch,
		Mirrored: rep.Mirrored, Index: rep.Index}, nil
}

// volumeToChange finds the volume. A name is looked up on the disks that this host serves before it is in the mirror, which on
// an SPM that does not lead the cluster is a little behind what the SPM has acknowledged itself: what the mirror calls so may
// have been renamed. A UUID that the mirror does not know may still be on the disk, so it is handed on as it is.
func (b *backend) volumeToChange(r *spm.Role, idOrName string) (id, dom string, err error) {
	st, err := b.state()
	if err != nil {
		return "", "", err
	}
	v, err := findVolume(st, idOrName)
	if u, uerr := uuid.Parse(idOrName); uerr == nil {
		if err != nil {
			return u.String(), "", nil
		}
		return v.ID, v.Domain, nil
	}
	vols, verr := r.Volumes()
	if verr != nil {
		return "", "", apiError(verr)
	}
	if id, err := namedOnDisk(vols, idOrName); err != nil || id != "" {
		return id, "", err
	}
	if err != nil {
		return "", "", err
	}
	if renamed(vols, v) {
		return "", "", noVolume(idOrName)
	}
	return v.ID, v.Domain, nil
}

// renamed tells that the disk has a volume of the mirror, which is not called so there any more.
func renamed(vols []domain.Volume, v fsm.Volume) bool {
	return slices.ContainsFunc(vols, func(d domain.Volume) bool { return d.ID == v.ID && d.State == domain.StateOK && d.Name != v.Name })
}

// namedOnDisk is the volume of a name among those on disk; empty: there is none.
func namedOnDisk(vols []domain.Volume, name string) (id string, err error) {
	found := volumesNamed(vols, name)
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0].ID, nil
	}
	if leaf, ok := leafAmong(found, func(v domain.Volume) layer { return layer{image: v.Image, kind: v.VolType} }); ok {
		return leaf.ID, nil
	}
	return "", api.Errorf(api.CodeConflict, "use the volume's UUID", "%d volumes are named %q", len(found), name)
}

// volumesNamed are the volumes of a name.
func volumesNamed(vols []domain.Volume, name string) (found []domain.Volume) {
	for _, v := range vols {
		if v.Name == name && (v.State == domain.StateOK || v.State == domain.StateUnreadable) {
			found = append(found, v)
		}
	}
	return found
}

// CreateDomain makes a domain on fresh LUNs; it runs on the SPM, or on a host without a pool's master.
func (b *backend) CreateDomain(ctx context.Context, req api.DomainCreate) (api.DomainCreated, error) {
	d, index, err := b.host.CreateDomain(ctx, host.DomainRequest{Name: req.Name, Devices: req.Devices, Force: req.Force})
	if err != nil {
		return api.DomainCreated{}, apiError(err)
	}
	return api.DomainCreated{Domain: apiDomain(d, 0), Mirrored: index != 0, Index: index}, nil
}

// ExtendDomain adds a LUN to a domain; it runs on the SPM.
func (b *backend) ExtendDomain(ctx context.Context, idOrName string, req api.DomainExtend) (api.DomainExtended, error) {
	st, err := b.state()
	if err != nil {
		return api.DomainExtended{}, err
	}
	d, err := findDomain(st, idOrName)
	if err != nil {
		return api.DomainExtended{}, err
	}
	rep, err := b.host.ExtendDomain(ctx, host.ExtendRequest{Domain: d, LUN: req.LUN, Force: req.Force})
	if err != nil {
		return api.DomainExtended{}, apiError(err)
	}
	d.Size, d.Free, d.LUNs, d.Epoch = rep.Info.Size, rep.Info.Free, rep.Info.LUNs, rep.Epoch
	return api.DomainExtended{Domain: apiDomain(d, rep.Info.Volumes), Mirrored: rep.Mirrored, Index: rep.Index}, nil
}

// CheckDomain reads a domain's disks from this host.
func (b *backend) CheckDomain(ctx context.Context, idOrName string) (api.Check, error) {
	st, err := b.state()
	if err != nil {
		return api.Check{}, err
	}
	d, err := findDomain(st, idOrName)
	if err != nil {
		return api.Check{}, err
	}
	found, err := b.host.CheckDomain(ctx, d)
	if err != nil {
		return api.Check{}, apiError(err)
	}
	out := api.Check{Domain: d.ID, Clean: true, Findings: []api.Finding{}}
	for _, f := range found {
		severity := string(f.Severity)
		if severity == "note" {
			severity = api.SeverityInfo
		} else {
			out.Clean = false
		}
		out.Findings = append(out.Findings, api.Finding{Severity: severity, What: f.What, Where: f.Where, Repair: f.Repair})
	}
	return out, nil
}

// Init makes this host the first of a cluster.
func (b *backend) Init(ctx context.Context, req api.Init) (api.Member, error) {
	m, err := b.host.Init(ctx, host.InitRequest{
		Pool: req.Pool, Profile: req.Profile, Devices: req.Devices, Domain: req.Domain, Force: req.Force, Test: req.TestPool,
	})
	return apiMember(m), apiError(err)
}

// Join makes this host a member of an existing cluster.
func (b *backend) Join(ctx context.Context, req api.Join) (api.Member, error) {
	m, err := b.host.Join(ctx, req.Address, req.Token)
	return apiMember(m), apiError(err)
}

// Leave takes this host out of its cluster.
func (b *backend) Leave(ctx context.Context, _ api.Leave) (api.Member, error) {
	if l := b.attached.List(); len(l) > 0 {
		return api.Member{}, api.Errorf(api.CodeConflict, "holdfast volume detach them first", "%d volumes are attached on this host", len(l))
	}
	m, err := b.host.Leave(ctx)
	out := apiMember(m)
	out.Left = err == nil
	return out, apiError(err)
}

func apiMember(m host.Member) api.Member {
	return api.Member{Host: m.Host, HostID: m.HostID, Pool: m.Pool, Domain: m.Domain, Token: m.Token}
}
