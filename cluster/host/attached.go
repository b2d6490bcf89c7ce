package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/blockdev/mapper/dm"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// Attached is what attached volumes need of a host's storage, while that is up.
type Attached struct{ host *Host }

// Attached gives the host's storage to package attach.
func (h *Host) Attached() Attached { return Attached{h} }

// opened finds a domain that this host uses now.
func (a Attached) opened(domainID string) (*runtime, *luns, error) {
	rt := a.host.runtime()
	if rt == nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNotOpen, ErrNoStorage)
	}
	l, ok := rt.domain(domainID)
	if !ok {
		return nil, nil, fmt.Errorf("domain %s: %w", domainID, ErrNotOpen)
	}
	return rt, l, nil
}

// Volume reads a volume from its domain's disks.
func (a Attached) Volume(ctx context.Context, domainID, id string) (attach.Volume, error) {
	rt, l, err := a.opened(domainID)
	if err != nil {
		return attach.Volume{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	disk, err := l.read(ctx)
	if err != nil {
		return attach.Volume{}, fmt.Errorf("domain %s: %w", domainID, err)
	}
	v, ok := disk.Volume(id)
	if !ok || v.State != domain.StateOK {
		return attach.Volume{}, notThere(id, v, ok)
	}
	place, ok, err := disk.VolumeLease(&v)
	if err != nil {
		return attach.Volume{}, err
	}
	if !ok {
		return attach.Volume{}, fmt.Errorf("volume %s, slot %d: %w", id, v.Slot, domain.ErrNoVolumeLease)
	}
	lies, err := disk.Segments(id)
	if err != nil {
		return attach.Volume{}, err
	}
	device, err := deviceOf(disk, id)
	if err != nil {
		return attach.Volume{}, err
	}
	segs := byName(lies)
	return attach.Volume{
		ID: v.ID, Domain: domainID, Name: v.Name, Format: v.Format, Type: v.VolType, Legality: v.Legality, Parent: v.Parent,
		SizeBytes: clientSize(&v), Grows: mayNeed(&v) > v.AllocatedBytes, Segments: segs, Device: device,
		Lease:     attach.Place{Lockspace: place.Lockspace, Name: place.Volume, Device: place.Device.Name(), Offset: place.Offset},
		IOTimeout: ioTimeout(segs, rt.profile),
	}, nil
}

// deviceOf is how device-mapper knows a volume.
func deviceOf(disk *domain.Domain, id string) (attach.Device, error) {
	vg := disk.VG()
	lv := vg.LV(id)
	if lv == nil {
		return attach.Device{}, fmt.Errorf("volume %s: %w", id, lvm2.ErrNotFound)
	}
	d, err := dm.Identify(vg, lv)
	return attach.Device(d), err
}

// notThere says why a volume cannot be used.
func notThere(id string, v domain.Volume, there bool) error {
	if there && v.State == domain.StateUnreadable {
		return fmt.Errorf("volume %s: its metadata cannot be read (%s): %w", id, v.Problem, domain.ErrBadKeys)
	}
	return fmt.Errorf("volume %s: %w", id, domain.ErrNotFound)
}

// clientSize is what clients of a mapping see: of a raw volume the disk, of a qcow2 one the container at its largest.
func clientSize(v *domain.Volume) int64 {
	if v.Format == domain.FormatRaw {
		return min(v.Capacity, v.AllocatedBytes)
	}
	return mayNeed(v)
}

// mayNeed is the most that a volume may ever need on its domain.
func mayNeed(v *domain.Volume) int64 {
	if v.Format != domain.FormatQcow2 || v.Allocation != domain.Sparse {
		return v.AllocatedBytes
	}
	return max(v.AllocatedBytes, domain.MaxCow(v.Capacity))
}

// byName tells where a volume lies by the names of the LUNs, which another process can open.
func byName(segs []blockdev.Segment) []attach.Segment {
	out := make([]attach.Segment, 0, len(segs))
	for _, s := range segs {
		out = append(out, attach.Segment{Device: s.Dev.Name(), OffsetBytes: s.Off, LengthBytes: s.Len})
	}
	return out
}

// ioTimeout is the deadline of a guest's I/O. With a device of the kernel the end of a process is the end of its I/O, so it
// may last as long as the leases allow; what was sent to a server is waited for by the keeper for one N.
func ioTimeout(segs []attach.Segment, p leases.Profile) time.Duration {
	if slices.ContainsFunc(segs, func(s attach.Segment) bool { return keeper.Remote(s.Device) }) {
		return p.IOTimeout
	}
	return callTimeout(p.IOTimeout)
}

// Segments reads where a volume lies now, from the volume group alone.
func (a Attached) Segments(ctx context.Context, domainID, id string) ([]attach.Segment, error) {
	_, l, err := a.opened(domainID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	segs, err := l.segments(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading the volume group of domain %s: %w", domainID, err)
	}
	return byName(segs), nil
}

// exportHolder is who the keeper holds an attached volume's lease for.
func exportHolder(volume string, p attach.Process) *keeper.Holder {
	h := &keeper.Holder{Name: "attached volume " + volume, Processes: []keeper.Process{{PID: p.PID, StartTime: p.StartTime}}, Kill: true, Stay: true}
	if p.Device != "" {
		h.Devices = []string{p.Device}
	}
	return h
}

func resourceAt(at attach.Place) keeper.ResourceSpec {
	return keeper.ResourceSpec{Lockspace: at.Lockspace, Name: at.Name, Device: at.Device, Offset: at.Offset, NoWait: true}
}

// Take takes a volume's lease for a process, which keeps it beyond this agent.
func (a Attached) Take(ctx context.Context, at attach.Place, p attach.Process, shared bool) (attach.Held, error) {
	rt, _, err := a.opened(at.Lockspace)
	if err != nil {
		return attach.Held{}, err
	}
	spec := resourceAt(at)
	spec.Shared, spec.Holder = shared, exportHolder(at.Name, p)
	ctx, cancel := context.WithTimeout(ctx, rt.leaseTimeout())
	defer cancel()
	version, err := rt.keeper.Acquire(ctx, spec)
	if err != nil {
		return attach.Held{}, rt.volumes.refused(domain.VolumeLease{Lockspace: at.Lockspace, Volume: at.Name}, err)
	}
	h := attach.Held{Version: version}
	if shared {
		return h, nil
	}
	guard, page, err := rt.keeper.ShareGuard(at.Lockspace, at.Name)
	if err != nil {
		return attach.Held{}, err
	}
	defer page.Close()
	h.Guard, err = json.Marshal(guard)
	return h, err
}

// freePoll is how often it is looked whether a lease was freed that the keeper frees by itself, at first.
const freePoll = 10 * time.Millisecond

// AwaitFree waits until the keeper has freed a lease whose process has ended. While this host's storage is down it waits for that too.
func (a Attached) AwaitFree(ctx context.Context, at attach.Place) error {
	for wait := freePoll; ; wait = min(2*wait, 20*freePoll) {
		free, err := a.isFree(ctx, at)
		if free || err != nil && !errors.Is(err, ErrNotOpen) {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return errors.Join(fmt.Errorf("volume %s: this host holds its lease still: %w", at.Name, context.Cause(ctx)), err)
		case <-t.C:
		}
	}
}

// isFree looks whether this host does not hold a lease.
func (a Attached) isFree(ctx context.Context, at attach.Place) (bool, error) {
	rt, l, err := a.opened(at.Lockspace)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, rt.leaseTimeout())
	defer cancel()
	info, err := rt.keeper.Inspect(ctx, resourceAt(at))
	if errors.Is(err, keeper.ErrGone) || errors.Is(err, keeper.ErrNotJoined) {
		return false, fmt.Errorf("%w: %w", ErrNotOpen, err)
	}
	return err == nil && !holds(info, rt.self.HostID, l.guard.Epoch()), err
}

// holds says whether a host has a resource, alone or with others, in this generation of its host id. What an earlier one had is
// on the disk still, and anybody's.
func holds(info leases.ResourceInfo, hostID int, generation uint64) bool {
	return info.State == leases.ResourceExclusive && info.Owner == hostID && info.Generation == generation ||
		slices.ContainsFunc(info.Sharers, func(s leases.Sharer) bool { return s.HostID == hostID && s.Generation == generation })
}

// Page is the keeper's shared page, for a process that is to be started. The caller closes it.
func (a Attached) Page() (*os.File, error) {
	rt := a.host.runtime()
	if rt == nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOpen, ErrNoStorage)
	}
	return rt.keeper.SharePage()
}

// ReportAttached records an event about an attached volume, as soon as the cluster can be reached.
func (h *Host) ReportAttached(e attach.Event) {
	severity := fsm.Info
	if e.Warning {
		severity = fsm.Warning
	}
	err := h.cfg.later.add(fsm.Event{Time: time.Now().UnixNano(), Kind: e.Kind, Severity: severity, Host: h.cfg.Cluster.Name, Subject: e.Subject, Message: e.Message})
	if err != nil {
		h.cfg.Log.Warn("an event could not be kept", "kind", e.Kind, "err", err)
	}
}

var (
	_ attach.Disks  = Attached{}
	_ attach.Leases = Attached{}
)
