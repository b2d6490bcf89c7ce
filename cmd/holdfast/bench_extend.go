package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

const (
	// benchGrowing is how many volumes are extended in turn; it is also the small domain.
	benchGrowing = 10
	// benchExtent is what each extension adds.
	benchExtent = 128 << 20
	// benchAtOnce is how many requests one host has under way at once: as many as the mailbox has slots for it.
	benchAtOnce = 63
)

// Goals of an extension, from the request to space that can be used.
const (
	extendGoal, extendGoal99 = 100 * time.Millisecond, 250 * time.Millisecond
	mailboxGoal99            = 300 * time.Millisecond
	atOnceGoal               = time.Second
)

// extendFew measures extensions in a domain with few volumes.
func (b *bench) extendFew(ctx context.Context) error {
	if b.made < benchGrowing {
		if _, _, err := b.fill(ctx, benchGrowing); err != nil {
			return err
		}
	}
	t, err := b.extend(ctx)
	b.extendedFew = t
	return err
}

// extendMany measures extensions in the full domain, and holds them against those in the small one.
func (b *bench) extendMany(ctx context.Context) error {
	if b.made < b.o.full { // with --only
		if _, _, err := b.fill(ctx, b.o.full); err != nil {
			return err
		}
	}
	t, err := b.extend(ctx)
	if err != nil {
		return err
	}
	b.report.many(fmt.Sprintf("extend a volume, %d volumes against %d", b.made, benchGrowing), t, b.extendedFew)
	return b.extendAtOnce(ctx)
}

// many is a line that compares a full domain with a small one.
func (r *benchReport) many(what string, many, few samples) {
	if len(few) == 0 || len(many) == 0 {
		return
	}
	ratio := float64(many.median()) / float64(few.median())
	r.rows = append(r.rows, benchRow{what: what, value: ms(many.median()), peer: ms(few.median()) + " (ours)",
		ratio: fmt.Sprintf("%.2f", ratio), goal: "<= 2", met: verdict(ratio <= 2)})
}

// extend times extensions asked of a host that is not the SPM, over the network and through the storage alone.
func (b *bench) extend(ctx context.Context) (byRPC samples, err error) {
	g, err := b.growing(ctx)
	if err != nil {
		return nil, err
	}
	if byRPC, err = sample(b.o.count, func() error { return g.next(ctx, false) }); err != nil {
		return nil, err
	}
	b.report.bounded(fmt.Sprintf("extend a volume over the network, %d volumes", b.made), byRPC, extendGoal, extendGoal99)
	byMailbox, err := sample(b.o.count, func() error { return g.next(ctx, true) })
	if err != nil {
		return nil, err
	}
	b.report.bounded(fmt.Sprintf("extend a volume through the storage alone, %d volumes", b.made), byMailbox, mailboxGoal99, mailboxGoal99)
	return byRPC, nil
}

// growing are the volumes that are extended in turn, and who asks.
type growing struct {
	c    *client.Client
	vols []api.Volume
	at   int
}

func (b *bench) growing(ctx context.Context) (*growing, error) {
	spm, err := b.pool.spm(ctx)
	if err != nil {
		return nil, err
	}
	g := &growing{c: b.pool.client(b.pool.other(spm.Host))}
	for n := range benchGrowing {
		v, _, err := g.c.Volume(ctx, benchVolume(n+1).Name, client.Read{Consistent: true})
		if err != nil {
			return nil, err
		}
		g.vols = append(g.vols, v)
	}
	return g, nil
}

// next extends the next volume by an extent.
func (g *growing) next(ctx context.Context, storage bool) error {
	v := &g.vols[g.at%len(g.vols)]
	g.at++
	out, err := g.c.ExtendVolume(ctx, v.ID, api.VolumeExtend{Size: v.Allocated + benchExtent, ThroughStorage: storage})
	*v = out.Volume
	return err
}

// extendAtOnce times as many requests of one host at once as its mailbox page has slots.
func (b *bench) extendAtOnce(ctx context.Context) error {
	if b.made < benchAtOnce {
		return nil
	}
	spm, err := b.pool.spm(ctx)
	if err != nil {
		return err
	}
	c := b.pool.client(b.pool.other(spm.Host))
	for _, storage := range []bool{false, true} {
		t, err := sample(max(b.o.runs/3, 1), func() error { return b.growAll(ctx, c, storage) })
		if err != nil {
			return err
		}
		way := "over the network"
		if storage {
			way = "through the storage alone"
		}
		b.report.bounded(fmt.Sprintf("%d extensions of one host at once %s", benchAtOnce, way), t, atOnceGoal, atOnceGoal)
	}
	return nil
}

// growAll extends many volumes by an extent at once.
func (b *bench) growAll(ctx context.Context, c *client.Client, storage bool) error {
	g, ctx := errgroup.WithContext(ctx)
	b.grown++
	for n := range benchAtOnce {
		g.Go(func() error {
			_, err := c.ExtendVolume(ctx, benchVolume(b.made-n).Name, api.VolumeExtend{Size: int64(b.grown+1) * benchExtent, ThroughStorage: storage})
			return err
		})
	}
	return g.Wait()
}
