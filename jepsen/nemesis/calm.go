package nemesis

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Resource is a part of hosts that faults fight over.
type Resource int

// The resources, in the order in which they are brought back: a process that waits for a disk cannot be resumed before it.
const (
	OfPath Resource = iota
	OfDisk
	OfNetwork
	OfClock
	OfData
	OfPower
	OfProcesses
	OfRoles
	resources int = iota
)

// calm brings one resource of all hosts to the state of a pool that nothing has happened to.
func calm(ctx context.Context, c Cluster, a admin, r Resource) error {
	switch r {
	case OfPath:
		return calmPaths(c)
	case OfNetwork:
		return c.MendNetwork()
	case OfRoles:
		return allMembers(ctx, a, c.Hosts())
	default:
	}
	var errs []error
	for _, h := range c.Hosts() {
		if err := calmHost(ctx, c, r, h); err != nil {
			errs = append(errs, fmt.Errorf("host %s: %w", h, err))
		}
	}
	return errors.Join(errs...)
}

func calmHost(ctx context.Context, c Cluster, r Resource, host string) error {
	switch r {
	case OfDisk:
		return errors.Join(c.ThawDisk(host), c.FreeDisk(host))
	case OfClock:
		return c.SetClock(host, 0, 0)
	case OfData:
		return nil // only the fault that damaged it knows the moment at which it may be put right
	case OfPower:
		return c.SetSwitch(host, "")
	case OfProcesses:
		return errors.Join(c.Resume(host, Machine), c.Start(ctx, host))
	default:
		return nil
	}
}

func calmPaths(c Cluster) error {
	l := c.LUN()
	if l == nil {
		return errors.New("the harness does not serve the LUN")
	}
	l.Gone(false)
	var errs []error
	for _, h := range c.Hosts() {
		p := l.Path(h)
		if p == nil {
			errs = append(errs, fmt.Errorf("host %s has no path to the LUN that could be hurt", h))
			continue
		}
		p.Heal()
	}
	return errors.Join(errs...)
}

// touches reports whether a fault hurts a resource, rather than only keeping others away from it: to do that it must have told
// the harness what it needs.
func touches(n Nemesis, r Resource) bool {
	needs := map[Resource]Ability{OfPath: HasLUN, OfNetwork: HasNetwork, OfDisk: HasDisk, OfClock: HasClock, OfPower: HasPower}[r]
	return needs == "" || slices.Contains(n.Needs, needs)
}
