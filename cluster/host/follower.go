package host

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

// follower keeps a domain's volume group as it was read last: reading it again after an extension is then a look at what has
// changed, which in a full domain costs a tenth.
type follower struct {
	turn  chan struct{} // holds a token while nobody reads
	group *lvm2.Group   // nil: not read yet
	devs  []blockdev.Device
}

func newFollower() follower {
	f := follower{turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	return f
}

// read gives use the volume group as the devices have it now. Callers go one at a time, each for no longer than its ctx.
func (f *follower) read(ctx context.Context, devs []blockdev.Device, o lvm2.Options, use func(*lvm2.Group) error) error {
	select {
	case <-f.turn:
	case <-ctx.Done():
		return fmt.Errorf("others read the volume group: %w", context.Cause(ctx))
	}
	defer func() { f.turn <- struct{}{} }()
	if err := f.refresh(ctx, devs, o); err != nil {
		f.group = nil // next time from nothing
		return err
	}
	return use(f.group)
}

// refresh reads the group; the caller has the turn.
func (f *follower) refresh(ctx context.Context, devs []blockdev.Device, o lvm2.Options) (err error) {
	if f.group == nil || !slices.Equal(f.devs, devs) {
		f.devs = devs
		f.group, err = lvm2.OpenWith(ctx, devs, o)
		return err
	}
	_, err = f.group.Refresh(ctx)
	return err
}

// segments tells where a volume lies now. LUNs that were added since are opened.
func (l *luns) segments(ctx context.Context, id string) (segs []blockdev.Segment, err error) {
	err = l.complete(ctx, func(devs []blockdev.Device) error {
		return l.group.read(ctx, devs, lvm2.Options{IOTimeout: l.opts.IOTimeout, Follow: true}, func(g *lvm2.Group) (err error) {
			segs, err = g.Segments(id)
			return err
		})
	})
	return segs, err
}
