package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/leases"
)

// finder opens the LUN with a physical volume, given the paths where it may be. The caller closes it.
type finder func(ctx context.Context, pv string, hints []string) (blockdev.Device, error)

// maxLUNs bounds how often a domain is read again because it names a LUN that was not open.
const maxLUNs = 16

// complete calls use with the devices, and again with more when it finds that the volume group has more.
func (l *luns) complete(ctx context.Context, use func(devs []blockdev.Device) error) error {
	for range maxLUNs {
		devs := l.list()
		err := use(devs)
		var missing *lvm2.MissingPVError
		if !errors.As(err, &missing) || l.find == nil {
			return err
		}
		if ferr := l.findAll(ctx, devs, missing.PVs); ferr != nil {
			return errors.Join(err, ferr)
		}
	}
	return fmt.Errorf("domain %s names more and more LUNs", l.id)
}

// findAll opens what the volume group has and devs lack. Somebody else may have found it meanwhile.
func (l *luns) findAll(ctx context.Context, devs []blockdev.Device, missing []lvm2.MissingPV) error {
	l.finding.Lock()
	defer l.finding.Unlock()
	if len(l.list()) != len(devs) {
		return nil
	}
	for _, pv := range missing {
		dev, err := l.find(ctx, pv.ID, []string{pv.Hint})
		if err != nil {
			return err
		}
		l.add(dev)
	}
	return nil
}

// add makes a device one of the domain's. Another one for the same LUN stays what readers use: two would look to them like two LUNs
// with one label.
func (l *luns) add(dev blockdev.Device) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.joining = slices.DeleteFunc(l.joining, func(j joiningLUN) bool { return j.Device == dev })
	if slices.ContainsFunc(l.devs, func(d blockdev.Device) bool { return sameLUN(d.Name(), dev.Name()) }) {
		l.kept = append(l.kept, dev)
		return
	}
	l.devs = append(slices.Clip(l.devs), dev)
}

// follow makes the domain's LUNs those that the mirror names, by what lies on them.
func (l *luns) follow(ctx context.Context, want []string, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	before := len(l.list())
	_, err := l.read(ctx)
	now := len(l.list())
	switch {
	case err != nil:
		log.Error("a LUN of a domain cannot be used on this host; trying again", "domain", l.id, "luns", want, "err", err)
	case now > before:
		log.Info("opened further LUNs of a domain", "domain", l.id, "luns", now)
	case now < len(want):
		err = fmt.Errorf("the mirror names %d LUNs of domain %s, its volume group has %d", len(want), l.id, now)
	}
	return err
}

// finder looks for physical volumes at the paths where others saw them, and at all paths that the configuration allows: a LUN may
// have another path on each host.
func (c Config) finder(profile leases.Profile) finder {
	return func(ctx context.Context, pv string, hints []string) (blockdev.Device, error) {
		var failed error
		for _, path := range c.candidates(hints) {
			dev, err := openIfPV(ctx, path, pv, profile)
			if dev != nil {
				return dev, nil
			}
			failed = errors.Join(failed, err)
		}
		return nil, errors.Join(fmt.Errorf("physical volume %s is not to be found on this host: %w; show the LUN to this host, under a path that its configuration allows (devices)",
			pv, lvm2.ErrMissingPV), failed)
	}
}

// candidates are paths that may be opened, the likely ones first.
func (c Config) candidates(hints []string) []string {
	var out []string
	add := func(path string) {
		if path != "" && !slices.Contains(out, path) && c.allowed(path) == nil {
			out = append(out, path)
		}
	}
	for _, h := range hints {
		add(h)
	}
	for _, pattern := range c.Devices {
		if strings.Contains(pattern, "://") {
			add(pattern)
			continue
		}
		paths, _ := filepath.Glob(pattern) // a bad pattern matches nothing; it is allowed to no device either
		for _, p := range paths {
			add(p)
		}
	}
	return out
}

// findTimeout bounds the look at one device.
const findTimeout = 5 * time.Second

// openIfPV opens a device if it is the physical volume. An error says that it could not be told.
func openIfPV(ctx context.Context, path, pv string, profile leases.Profile) (blockdev.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	dev, err := blockdev.Open(ctx, path, blockdev.Options{IOTimeout: profile.IOTimeout})
	if err != nil {
		return nil, err
	}
	info, err := lvm2.Inspect(ctx, dev)
	if err == nil && info.ID == pv {
		return dev, nil
	}
	if errors.Is(err, lvm2.ErrNotPV) {
		err = nil
	}
	return nil, errors.Join(err, dev.Close())
}
