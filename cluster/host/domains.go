package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/manager"
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
	inUse   []fsm.Domain // domains of the pool, whose LUNs nothing may force
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
	if err := errors.Join(refuseOwn(ctx, req.inUse, devs), h.refusePVs(ctx, devs)); err != nil {
		return fsm.Domain{}, errors.Join(err, closeAll(devs))
	}
	d, err := h.create(ctx, req, devs)
	return d, errors.Join(err, closeAll(devs))
}

// ErrOwnLUN says that a LUN belongs to a domain of this very pool. Force does not help: it is in use now.
var ErrOwnLUN = errors.New("the LUN belongs to a domain of this pool")

// refuseOwn refuses LUNs of the pool's own domains: by what lies on them, which holds whatever path they were reached
// by, and by their path, which holds whatever has become of what lies on them.
func refuseOwn(ctx context.Context, domains []fsm.Domain, devs []blockdev.Device) error {
	for _, dev := range devs {
		vg := ""
		if info, err := lvm2.Inspect(ctx, dev); err == nil {
			vg = info.VGName // with an error it is no physical volume, or a damaged one: then only the path can tell
		}
		for _, d := range domains {
			if d.ID == vg || slices.ContainsFunc(d.LUNs, func(lun string) bool { return sameLUN(lun, dev.Name()) }) {
				return fmt.Errorf("%s, domain %s (%s): %w", dev.Name(), d.Name, d.ID, ErrOwnLUN)
			}
		}
	}
	return nil
}

// refusePVs refuses further LUNs of domains that are open here, which say themselves only that they belong to some volume group.
func (h *Host) refusePVs(ctx context.Context, devs []blockdev.Device) error {
	rt := h.runtime()
	if rt == nil {
		return nil
	}
	for _, dev := range devs {
		if err := rt.refusePV(ctx, dev, nil); err != nil {
			return err
		}
	}
	return nil
}

// sameLUN tells whether two paths or URIs lead to the same device on this host.
func sameLUN(a, b string) bool {
	if a == b {
		return true
	}
	fa, errA := os.Stat(a)
	fb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(fa, fb)
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

// CreateDomain makes a further domain of the pool. It runs on the SPM's host.
func (h *Host) CreateDomain(ctx context.Context, req DomainRequest) (fsm.Domain, uint64, error) {
	node := h.Node()
	if node == nil {
		return fsm.Domain{}, 0, cluster.ErrNotMember
	}
	st := node.View()
	pool, ok := st.Pool()
	if !ok {
		return fsm.Domain{}, 0, manager.ErrNoPool
	}
	profile, err := leases.ProfileByName(pool.Profile)
	if err != nil {
		return fsm.Domain{}, 0, err
	}
	epoch, err := h.epoch(pool)
	if err != nil {
		return fsm.Domain{}, 0, err
	}
	d, err := h.format(ctx, formatRequest{pool: pool, profile: profile, name: req.Name,
		devices: req.Devices, force: req.Force, epoch: epoch, inUse: st.Domains.Values()})
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
	role := h.Role()
	if role == nil {
		return 0, ErrNoStorage
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
	devs, failed := openSome(ctx, d.LUNs, profile)
	if len(devs) == 0 {
		return nil, failed
	}
	l := &luns{id: d.ID, name: d.Name, group: newFollower(), devs: devs, find: h.cfg.finder(profile), opts: domainOptions(profile, h.cfg.Log)}
	l.opts.Tolerant = true
	disk, err := l.read(ctx)
	if err != nil {
		return nil, errors.Join(err, failed, l.close())
	}
	found, err := domain.Check(ctx, disk)
	if id := disk.Info().UUID; err == nil && id != d.ID {
		found = append(found, domain.Finding{Severity: domain.SeverityError, Where: fmt.Sprint(d.LUNs),
			What:   fmt.Sprintf("the LUNs hold domain %s, not %s", id, d.ID),
			Repair: "see which paths this host uses for the domain; if the domain itself was overwritten, restore it from a backup"})
	}
	return found, errors.Join(err, l.close())
}
