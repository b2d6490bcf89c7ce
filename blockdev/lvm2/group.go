package lvm2

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Options are the choices of OpenWith. The zero value is fine.
type Options struct {
	// IOTimeout is the deadline of every single read, write and flush. Default 10 s.
	IOTimeout time.Duration
	// Host is recorded as the creator of volumes and texts. Default: the machine's name.
	Host string
	// Now gives the wall time that is recorded. Default time.Now.
	Now func() time.Time
	// Verify runs the full strict check on every text before it is written. It costs about 10 ms for 2,000 volumes.
	// Default: on when HOLDFAST_VERIFY=all, as in all tests.
	Verify bool
	// Follow is for who only wants to know where volumes lie: of areas whose headers name the same text, Refresh reads
	// one, and its checksum stands for the others.
	Follow bool
}

func (o Options) withDefaults() Options {
	if o.IOTimeout <= 0 {
		o.IOTimeout = 10 * time.Second
	}
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Verify = o.Verify || os.Getenv("HOLDFAST_VERIFY") == "all"
	return o
}

// Group is a volume group on its devices. VG and Begin never wait; Refresh and Commit run one at a time.
type Group struct {
	opt  Options
	devs []blockdev.Device // replaced under mu when the group grows

	cur atomic.Pointer[state]

	mu    sync.Mutex // guards what follows, and is held for the whole of Commit and Refresh
	doubt bool       // a commit ended without a known outcome
	buf   []byte     // text of the last commit, for its memory
}

// Open reads a volume group from all its devices, with default options.
func Open(ctx context.Context, devs []blockdev.Device) (*Group, error) {
	return OpenWith(ctx, devs, Options{})
}

// OpenWith reads a volume group from all its devices: labels, metadata areas, texts. It takes the text with the
// highest sequence number. Volume groups that are foreign, incomplete or split are refused.
func OpenWith(ctx context.Context, devs []blockdev.Device, o Options) (*Group, error) {
	if len(devs) == 0 {
		return nil, fmt.Errorf("open volume group: %w: no devices", ErrInvalid)
	}
	g := &Group{opt: o.withDefaults(), devs: slices.Clone(devs)}
	st, err := g.read(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("open volume group: %w", err)
	}
	g.cur.Store(st)
	return g, nil
}

// read scans all devices. When nothing moved since old it returns old.
func (g *Group) read(ctx context.Context, old *state) (*state, error) {
	scans := make([]*pvScan, len(g.devs))
	errs := parallel(len(g.devs), func(i int) (err error) {
		scans[i], err = scanHeads(ctx, g.devs[i], g.opt.IOTimeout)
		return err
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if old != nil && slices.EqualFunc(scans, old.scans, (*pvScan).same) {
		return old, nil
	}
	if err := g.readTexts(ctx, scans, old != nil && g.opt.Follow); err != nil {
		return nil, err
	}
	var before *VG
	if st := g.cur.Load(); st != nil {
		before = st.vg
	}
	return choose(scans, before)
}

// readTexts reads the texts of all areas, or of areas with the same text one.
func (g *Group) readTexts(ctx context.Context, scans []*pvScan, one bool) error {
	if one {
		return scanOneText(ctx, scans, g.opt.IOTimeout)
	}
	return errors.Join(parallel(len(scans), func(i int) error { return scans[i].scanTexts(ctx, g.opt.IOTimeout) })...)
}

// VG is the volume group as of the last Open, Refresh or Commit.
func (g *Group) VG() *VG { return g.cur.Load().vg }

// Devices are the devices of VG().PVs, in that order.
func (g *Group) Devices() []blockdev.Device { return g.cur.Load().devices() }

// MetadataPVs are the indices in VG().PVs of those that carry the metadata of the group.
func (g *Group) MetadataPVs() []int {
	var out []int
	for i, s := range g.cur.Load().pvs {
		if slices.ContainsFunc(s.mdas, (*mda).inUse) {
			out = append(out, i)
		}
	}
	return out
}

// Warnings tells what Open or Refresh found that is wrong but can be lived with: bad or stale metadata areas,
// devices that are too small or do not belong.
func (g *Group) Warnings() []string { return slices.Clone(g.cur.Load().warnings) }

// Refresh reads the volume group again. It is cheap when nothing changed: the text is read only when a header
// differs. After a commit with unknown outcome it finds out what is true, and fails as long as a write of that commit
// may still land.
func (g *Group) Refresh(ctx context.Context) (*VG, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.cur.Load()
	if g.doubt {
		for _, d := range g.devs {
			if n := d.Pending(); n > 0 {
				return nil, fmt.Errorf("refresh volume group: %s: %d calls have not come back: %w", d.Name(), n, blockdev.ErrOutcomeUnknown)
			}
		}
		old = nil
	}
	st, err := g.read(ctx, old)
	if err != nil {
		return nil, fmt.Errorf("refresh volume group: %w", err)
	}
	if want := g.VG().ID; st.vg.ID != want {
		return nil, fmt.Errorf("refresh volume group: %w: now it is %s with id %s", ErrForeign, st.vg.Name, st.vg.ID)
	}
	if g.doubt && len(st.scans) > len(st.pvs) {
		g.devs = st.devices() // a device that was to join the group did not
		if st, err = g.read(ctx, nil); err != nil {
			return nil, fmt.Errorf("refresh volume group: %w", err)
		}
	}
	g.cur.Store(st)
	g.doubt = false
	return st.vg, nil
}

func (st *state) devices() []blockdev.Device {
	out := make([]blockdev.Device, len(st.pvs))
	for i, s := range st.pvs {
		out[i] = s.dev
	}
	return out
}
