package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	devs  []blockdev.Device
	opts  domain.Options
	guard blockdev.Guard // says whether our host id is held in the domain's lockspace
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

// openDomain opens the LUNs of a domain of the mirror and makes sure that they hold that domain.
func openDomain(ctx context.Context, d fsm.Domain, profile leases.Profile, log *slog.Logger) (*luns, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	devs, err := openLUNs(ctx, d.LUNs, profile)
	if err != nil {
		return nil, fmt.Errorf("domain %s (%s): %w", d.Name, d.ID, err)
	}
	l := &luns{id: d.ID, devs: devs, opts: domainOptions(profile, log)}
	disk, err := l.read(ctx)
	if err == nil && disk.Info().UUID != d.ID {
		err = fmt.Errorf("%v hold domain %s, not %s", d.LUNs, disk.Info().UUID, d.ID)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("domain %s (%s): %w", d.Name, d.ID, err), closeAll(devs))
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

// read reads the domain anew.
func (l *luns) read(ctx context.Context) (*domain.Domain, error) {
	return domain.Open(ctx, l.devs, l.opts)
}

// pending counts device calls that have not come back.
func (l *luns) pending() int {
	n := 0
	for _, d := range l.devs {
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
