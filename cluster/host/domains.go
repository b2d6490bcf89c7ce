package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// DomainRequest asks for a new domain on fresh LUNs.
type DomainRequest struct {
	Name    string
	Devices []string
	Force   string // name of what may be destroyed, as the refusal gave it
}

// formatRequest is a domain to be made on disk.
type formatRequest struct {
	pool    fsm.Pool
	profile leases.Profile
	master  bool
	name    string
	devices []string
	force   string
	epoch   uint64
}

// formatTimeout bounds the making of a domain.
const formatTimeout = 2 * time.Minute

// format makes a domain on disk and returns its record. Nobody knows of it before it is in the mirror, so no lease is
// needed.
func (h *Host) format(ctx context.Context, req formatRequest) (fsm.Domain, error) {
	for _, d := range req.devices {
		if err := h.allowed(d); err != nil {
			return fsm.Domain{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, formatTimeout)
	defer cancel()
	devs, err := openLUNs(ctx, req.devices, req.profile)
	if err != nil {
		return fsm.Domain{}, err
	}
	d, err := h.create(ctx, req, devs)
	return d, errors.Join(err, closeAll(devs))
}

func (h *Host) create(ctx context.Context, req formatRequest, devs []blockdev.Device) (fsm.Domain, error) {
	opts := domainOptions(req.profile, h.cfg.Log)
	disk, err := domain.Create(ctx, domain.CreateOptions{
		UUID: uuid.NewString(), Name: req.name, PoolUUID: req.pool.ID, PoolName: req.pool.Name, Master: req.master,
		Devices: devs, DeviceHints: req.devices, Force: req.force, Locks: opts.Locks, Leases: opts.Leases,
		Host: h.cfg.Cluster.Name, IOTimeout: opts.IOTimeout, Log: h.cfg.Log,
	})
	if err != nil {
		return fsm.Domain{}, fmt.Errorf("making domain %s: %w", req.name, err)
	}
	return domainRecord(disk.Info(), req), nil
}

// domainRecord is the mirror's entry of a new domain.
func domainRecord(info domain.Info, req formatRequest) fsm.Domain {
	role := "regular"
	if req.master {
		role = "master"
	}
	return fsm.Domain{
		ID: info.UUID, Name: info.Name, Type: "block", Role: role, Status: "active", Version: info.Version,
		Size: info.Size, Free: info.Free, ExtentSize: info.ExtentSize, SectorSize: info.SectorSize, LUNs: req.devices,
		Epoch: req.epoch,
	}
}

// CreateDomain makes a further domain of the pool, or the master of a pool that has none. It runs on the SPM's host.
func (h *Host) CreateDomain(ctx context.Context, req DomainRequest) (fsm.Domain, uint64, error) {
	node := h.Node()
	if node == nil {
		return fsm.Domain{}, 0, errors.New("this host belongs to no cluster")
	}
	pool, ok := node.View().Pool()
	if !ok {
		return fsm.Domain{}, 0, errors.New("the cluster has no pool")
	}
	profile, err := leases.ProfileByName(pool.Profile)
	if err != nil {
		return fsm.Domain{}, 0, err
	}
	epoch, err := h.epoch(pool)
	if err != nil {
		return fsm.Domain{}, 0, err
	}
	d, err := h.format(ctx, formatRequest{pool: pool, profile: profile, master: pool.Master == "", name: req.Name,
		devices: req.Devices, force: req.Force, epoch: epoch})
	if err != nil {
		return fsm.Domain{}, 0, err
	}
	out, err := node.Apply(ctx, &fsm.DomainPut{Domain: d})
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return d, 0, fmt.Errorf("domain %s is on disk but not recorded; create it again with its name as force: %w", d.ID, err)
	}
	// The SPM, which this host is, shall know the domain when its caller does.
	_, _ = node.WaitIndex(ctx, out.Index)
	return d, out.Index, nil
}

// epoch is the SPM epoch that a new domain is recorded under.
func (h *Host) epoch(pool fsm.Pool) (uint64, error) {
	if pool.Master == "" {
		return 0, errors.New("the pool has no master domain; make it with holdfast init")
	}
	role := h.Role()
	if role == nil {
		return 0, errNoStorage
	}
	st := role.Status()
	if st.State != spm.StateServing {
		return 0, &spm.NotSPMError{Holder: pool.SPM.Host, Epoch: pool.SPM.Epoch, Reason: "its role is " + st.State}
	}
	return st.Epoch, nil
}

// CheckDomain reads a domain's disks and lists what is inconsistent. It changes nothing and opens the devices anew, so
// that it also works where the domain cannot be used.
func (h *Host) CheckDomain(ctx context.Context, d fsm.Domain) ([]domain.Finding, error) {
	pool, _ := h.Node().View().Pool()
	profile, err := leases.ProfileByName(pool.Profile)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, formatTimeout)
	defer cancel()
	devs, err := openLUNs(ctx, d.LUNs, profile)
	if err != nil {
		return nil, err
	}
	opts := domainOptions(profile, h.cfg.Log)
	opts.Tolerant = true
	disk, err := domain.Open(ctx, devs, opts)
	if err != nil {
		return nil, errors.Join(err, closeAll(devs))
	}
	found, err := domain.Check(ctx, disk)
	return found, errors.Join(err, closeAll(devs))
}
