package leases

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
)

// CheckLockspace reads the records of host ids 1 to hosts and returns what is wrong with each damaged one, by host id.
// It changes nothing. A host whose record is damaged cannot renew, and nobody can take the leases that it held.
func CheckLockspace(ctx context.Context, dev blockdev.Device, off int64, geo Geometry, name string, hosts int) (map[int]error, error) {
	if err := checkRange(dev, off, geo); err != nil {
		return nil, err
	}
	space, err := MakeName(name)
	if err != nil {
		return nil, fmt.Errorf("lockspace %w", err)
	}
	if hosts < 1 || hosts > geo.MaxHosts() {
		return nil, fmt.Errorf("%w: %d of at most %d", ErrHostIDRange, hosts, geo.MaxHosts())
	}
	buf := make([]byte, geo.sector(hosts))
	if err := dev.ReadAt(ctx, buf, off); err != nil {
		return nil, fmt.Errorf("reading lockspace %s: %w", name, err)
	}
	bad := map[int]error{}
	for id := 1; id <= hosts; id++ {
		b := buf[geo.sector(id-1):geo.sector(id)]
		var l Leader
		if err := l.Decode(b); err != nil {
			bad[id] = err
		} else if err := l.verifyDelta(b, space); err != nil {
			bad[id] = err
		}
	}
	return bad, nil
}
