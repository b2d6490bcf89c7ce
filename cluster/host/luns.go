package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

const spmName = "SDM" // of the SPM lease, the same as VDSM's

// luns are the open devices of one domain on this host.
type luns struct {
	id    string
	name  string
	opts  domain.Options
	guard blockdev.Guard      // says whether our host id is held in the domain's lockspace
	spm   keeper.ResourceSpec // the domain's SPM lease, known when the host id is held; it never moves
	find  finder              // opens LUNs that were added since

	finding sync.Mutex // held while LUNs are looked for
	group   follower

	mu      sync.Mutex        // guards what follows
	devs    []blockdev.Device // replaced when a LUN is added
	joining []joiningLUN      // may become some of them
	kept    []blockdev.Device // the SPM has them for a LUN that is among devs too
	pvs     []string          // ids of the physical volumes, as last read
}

// openTimeout bounds opening and reading one domain; a hung LUN must not hold up the others.
const openTimeout = 20 * time.Second

// openLUNs opens the devices of a domain.
func openLUNs(ctx context.Context, paths []string, profile leases.Profile) ([]blockdev.Device, error) {
	var devs []blockdev.Device
	for _, p := range paths {
		dev, err := blockdev.Open(ctx, p, blockdev.Options{IOTimeout: profile.IOTimeout})
		if err != nil {
			return nil, errors.Join(err, closeAll(devs))
		}
		devs = append(devs, dev)
	}
	if len(devs) == 0 {
		return nil, errors.New("the domain names no LUN")
	}
	return devs, nil
}

func closeAll(devs []blockdev.Device) error {
	var err error
	for _, d := range devs {
		err = errors.Join(err, d.Close())
	}
	return err
}

// openSome is openLUNs for a domain that has a LUN more or another path than this host: what cannot be opened is looked for by what
// lies on it, once what can be opened has said what is missing.
func openSome(ctx context.Context, paths []string, profile leases.Profile) ([]blockdev.Device, error) {
	var devs []blockdev.Device
	var failed error
	for _, p := range paths {
		dev, err := openLUNs(ctx, []string{p}, profile)
		devs, failed = append(devs, dev...), errors.Join(failed, err)
	}
	if len(devs) == 0 && failed == nil {
		failed = errors.New("the domain names no LUN")
	}
	return devs, failed
}

// openDomain opens the LUNs of a domain of the mirror and makes sure that they hold that domain.
func openDomain(ctx context.Context, d fsm.Domain, profile leases.Profile, find finder, log *slog.Logger) (*luns, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	devs, failed := openSome(ctx, d.LUNs, profile)
	if len(devs) == 0 {
		return nil, fmt.Errorf("domain %s (%s): %w", d.Name, d.ID, failed)
	}
	l := &luns{id: d.ID, name: d.Name, group: newFollower(), devs: devs, find: find, opts: domainOptions(profile, log)}
	disk, err := l.read(ctx)
	if err == nil && disk.Info().UUID != d.ID {
		err = fmt.Errorf("%v hold domain %s, not %s", d.LUNs, disk.Info().UUID, d.ID)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("domain %s (%s): %w", d.Name, d.ID, errors.Join(err, failed)), l.close())
	}
	return l, nil
}

// callTimeout bounds one device call. It may take three I/O timeouts: with leases that live for eight of them there is
// room for it, and a busy array is not taken for a dead one.
func callTimeout(n time.Duration) time.Duration { return min(3*n, 10*time.Second) }

// domainOptions are the times and helpers every opening of a domain uses.
func domainOptions(profile leases.Profile, log *slog.Logger) domain.Options {
	locks := Locks{IOTimeout: profile.IOTimeout, Log: log}
	return domain.Options{IOTimeout: callTimeout(profile.IOTimeout), Log: log, Locks: locks, Leases: locks, DeferWipes: true}
}

// read reads the domain anew. LUNs that were added since are opened.
func (l *luns) read(ctx context.Context) (disk *domain.Domain, err error) {
	err = l.complete(ctx, func(devs []blockdev.Device) error {
		disk, err = domain.Open(ctx, devs, l.opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pvs = disk.PVs()
	return disk, nil
}

// list are the devices.
func (l *luns) list() []blockdev.Device {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.devs
}

// close closes the devices.
func (l *luns) close() error {
	var err error
	for _, d := range l.all() {
		err = errors.Join(err, d.Close())
	}
	return err
}

// all are the devices, and those that may become some of them.
func (l *luns) all() []blockdev.Device {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Concat(l.devs, l.kept)
	for _, j := range l.joining {
		out = append(out, j.Device)
	}
	return out
}

// pending counts device calls of the domain that have not come back.
func (l *luns) pending() int { return pendingOf(l.list()) }

// allPending counts those of LUNs that were to join too.
func (l *luns) allPending() int { return pendingOf(l.all()) }

func pendingOf(devs []blockdev.Device) int {
	n := 0
	for _, d := range devs {
		n += d.Pending()
	}
	return n
}

// lockspace is what the keeper needs to join the domain's lockspace.
func (l *luns) lockspace(disk *domain.Domain) (keeper.LockspaceSpec, error) {
	dev, off, err := disk.Lockspace()
	if err != nil {
		return keeper.LockspaceSpec{}, err
	}
	return keeper.LockspaceSpec{Name: l.id, Device: dev.Name(), Offset: off, Geometry: geometry(dev)}, nil
}

// spmResource is where the domain's SPM lease lies.
func (l *luns) spmResource(disk *domain.Domain) (keeper.ResourceSpec, error) {
	dev, off, err := disk.SPMResource()
	if err != nil {
		return keeper.ResourceSpec{}, err
	}
	return keeper.ResourceSpec{Lockspace: l.id, Name: spmName, Device: dev.Name(), Offset: off}, nil
}
