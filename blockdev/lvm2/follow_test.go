package lvm2

import (
	"context"
	"errors"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

// readCounter counts the bytes read from a device.
type readCounter struct {
	blockdev.Device
	bytes int
}

func (c *readCounter) ReadAt(ctx context.Context, p []byte, off int64) error {
	c.bytes += len(p)
	return c.Device.ReadAt(ctx, p, off)
}

// followed is a group, and a second one that follows it through a counter.
func followed(t *testing.T) (ctx context.Context, g, follower *Group, c *readCounter) {
	t.Helper()
	dev := blockdev.NewMem(1<<40, 512)
	g, ctx = benchGroupOn(t, 300, dev)
	c = &readCounter{Device: dev}
	follower, err := OpenWith(ctx, []blockdev.Device{c}, Options{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, g, follower, c
}

func extendOne(t *testing.T, ctx context.Context, g *Group) {
	t.Helper()
	tx := g.Begin()
	if _, err := tx.ExtendLV(benchName(7), 3<<30); err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(ctx, tx, nil, "extend"); err != nil {
		t.Fatal(err)
	}
}

// asAnew demands that vg is what is read from nothing.
func asAnew(t *testing.T, ctx context.Context, g *Group, vg *VG) {
	t.Helper()
	anew, err := Open(ctx, g.Devices())
	if err != nil {
		t.Fatal(err)
	}
	if err := sameVG(vg, anew.VG()); err != nil || vg.Seqno != g.VG().Seqno {
		t.Errorf("%v; sequence number %d, want %d", err, vg.Seqno, g.VG().Seqno)
	}
}

// Who follows reads one of the two equal texts, and has what is true.
func TestFollow_readsOneText(t *testing.T) {
	t.Parallel()
	ctx, g, follower, c := followed(t)
	extendOne(t, ctx, g)
	c.bytes = 0
	vg, err := follower.Refresh(ctx)
	if err != nil {
		t.Fatal(err)
	}
	asAnew(t, ctx, g, vg)
	if text := int(g.VG().TextSize()); c.bytes < text || c.bytes > text+16<<10 {
		t.Errorf("read %d bytes, a text has %d", c.bytes, text)
	}
	if err := follower.Commit(ctx, follower.Begin(), nil, "no"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a commit of who follows: %v", err)
	}
}

// When the text that is read first is damaged, the other one is read.
func TestFollow_otherText(t *testing.T) {
	t.Parallel()
	ctx, g, follower, _ := followed(t)
	extendOne(t, ctx, g)
	m := g.cur.Load().mdasInUse()[0]
	head, err := readMDA(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	off := (m.area.off + head.slots[0].offset) &^ (sector - 1)
	if err := m.dev.WriteAt(ctx, make([]byte, sector), off); err != nil {
		t.Fatal(err)
	}
	vg, err := follower.Refresh(ctx)
	if err != nil {
		t.Fatal(err)
	}
	asAnew(t, ctx, g, vg)
	if len(follower.Warnings()) != 1 {
		t.Errorf("warnings %q, want that of the damaged area", follower.Warnings())
	}
}

// readMDA reads the header of an area as it is now.
func readMDA(ctx context.Context, m *mda) (*mdaHead, error) {
	p, err := readRange(ctx, m.dev, Options{}.withDefaults().IOTimeout, m.area.off, mdaHeader)
	if err != nil {
		return nil, err
	}
	return decodeMDA(p, m.area)
}
