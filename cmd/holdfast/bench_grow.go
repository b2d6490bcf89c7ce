package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/mapper/export"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// thin is a thin volume that is attached, seen as its guest sees it: through the export's own sockets, by nothing of the agent's.
type thin struct {
	api  *client.Client
	host string
	vol  string
	uri  string
	pid  int
	dev  blockdev.Device
	ctl  *export.Client
	spec export.Spec
	last export.Status
}

// attachThin makes a volume and attaches it on a host.
func attachThin(ctx context.Context, c *client.Client, host string, v api.VolumeCreate) (t *thin, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	made, err := c.CreateVolume(ctx, v, "")
	if err != nil {
		return nil, err
	}
	a, err := c.AttachVolume(ctx, made.ID, host, api.VolumeAttach{})
	if err != nil {
		return nil, err
	}
	t = &thin{api: c, host: host, vol: made.ID, uri: a.URI}
	u, err := url.Parse(a.URI)
	if err != nil {
		return nil, err
	}
	ctl, hello, err := export.Dial(ctx, strings.TrimSuffix(u.Query().Get("socket"), ".nbd")+".ctl")
	if err != nil {
		return nil, err
	}
	t.ctl, t.pid, t.spec, t.last = ctl, hello.PID, hello.Spec, hello.Status
	if t.dev, err = blockdev.Open(ctx, a.URI, blockdev.Options{}); err != nil {
		return nil, errors.Join(err, ctl.Close())
	}
	return t, nil
}

// drop takes the volume away again.
func (t *thin) drop(ctx context.Context) error {
	err := errors.Join(t.dev.Close(), t.ctl.Close())
	if _, e := t.api.DetachVolume(ctx, t.vol, t.host, api.VolumeDetach{}); e != nil {
		return errors.Join(err, e)
	}
	_, e := t.api.DeleteVolume(ctx, t.vol)
	return errors.Join(err, e)
}

// cross writes the block that leaves less than the threshold free, and returns when the export has the space that comes of it.
func (t *thin) cross(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	had := t.last.AllocatedBytes
	if err := t.dev.WriteAt(ctx, make([]byte, crossBytes), had-t.spec.ThresholdBytes); err != nil {
		return err
	}
	for t.last.AllocatedBytes == had {
		var err error
		if t.last, err = t.ctl.Watch(ctx, t.last.Seq); err != nil {
			return err
		}
	}
	return nil
}

// crossBytes is what crosses the threshold.
const crossBytes = 4096

// thinVolume has the default chunk and threshold, and is never full.
func thinVolume(name string) api.VolumeCreate {
	return api.VolumeCreate{Name: name, Size: 512 * gib, InitialSize: attach.DefaultGrowth().ChunkBytes}
}

// crossFew times extensions as a guest has them in a domain with few volumes.
func (b *bench) crossFew(ctx context.Context) (err error) {
	if b.made < benchGrowing {
		if _, _, err := b.fill(ctx, benchGrowing); err != nil {
			return err
		}
	}
	b.crossedFew, err = b.crossThreshold(ctx)
	return err
}

// crossMany times them in the full domain, and holds them against those in the small one.
func (b *bench) crossMany(ctx context.Context) error {
	if b.made < b.o.full { // with --only
		if _, _, err := b.fill(ctx, b.o.full); err != nil {
			return err
		}
	}
	t, err := b.crossThreshold(ctx)
	b.report.many(fmt.Sprintf("the same, %d volumes against %d", b.made, benchGrowing), t, b.crossedFew)
	return err
}

// crossThreshold times extensions as a guest has them, asked for over the network.
func (b *bench) crossThreshold(ctx context.Context) (took samples, err error) {
	spm, err := b.pool.spm(ctx)
	if err != nil {
		return nil, err
	}
	host := b.pool.other(spm.Host)
	t, err := attachThin(ctx, b.pool.client(host), b.pool.file().Hosts[host].Name, thinVolume(fmt.Sprintf("bench-thin-%d", b.made)))
	if err != nil {
		return nil, err
	}
	took, err = sample(b.o.count, func() error { return t.cross(ctx) })
	b.report.bounded(fmt.Sprintf("threshold crossed to usable space, network up, %d volumes", b.made), took, extendGoal, extendGoal99)
	return took, errors.Join(err, t.drop(ctx))
}

// crossCutOff times the same on hosts of which none reaches another: without a network and without a quorum, through the LUN alone.
func (b *bench) crossCutOff(ctx context.Context) (err error) {
	const what = "threshold crossed to usable space, every network cable pulled"
	dir := filepath.Join(b.o.dir, "alone")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	p, err := newNetPool(ctx, dir, "fast", 3, false)
	if errors.Is(err, errNoNetwork) {
		b.report.leftOut(what, err)
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	st, _, err := p.hosts[0].Status(ctx, client.Read{Consistent: true})
	if err != nil {
		return err
	}
	h := p.other(st.SPM.Host)
	t, err := attachThin(ctx, h.Client, h.name, thinVolume("thin"))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = killPID(t.pid) // it outlives the agents, and no supervisor looks after it here
		}
	}()
	for _, h := range p.hosts {
		if err := p.plug(h, false); err != nil {
			return err
		}
	}
	took, err := sample(b.o.count, func() error { return t.cross(ctx) })
	b.report.bounded(what, took, mailboxGoal99, mailboxGoal99)
	for _, h := range p.hosts {
		err = errors.Join(err, p.plug(h, true))
	}
	if err != nil {
		return err
	}
	if err := p.awaitUp(ctx); err != nil {
		return err
	}
	return t.drop(ctx)
}
