package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// pairBase is two domains of one pool with a volume on each, and old bytes where a new master has its mailbox and its file system.
type pairBase struct {
	base
	said said
}

var (
	thePair  pairBase
	makePair sync.Once
)

func newPairBase(t *testing.T) *pairBase {
	t.Helper()
	makePair.Do(func() {
		synctest.Test(t, func(t *testing.T) {
			if err := thePair.build(bubbleContext(t)); err != nil {
				t.Error(err)
			}
		})
	})
	if thePair.mem == nil {
		t.Fatal("there are no domains to begin with")
	}
	return &thePair
}

func (b *pairBase) build(ctx context.Context) error {
	rec := faulty.NewRecorder(blockdev.NewMem(2*lunSize, sector))
	o := domainOptions()
	for n, id := range pairIDs {
		if _, err := domain.Create(ctx, domain.CreateOptions{UUID: id, Name: fmt.Sprint("data", n), PoolUUID: poolID, PoolName: "pool", Master: n == 0,
			Devices: []blockdev.Device{half(rec, n)}, Locks: locks, Leases: locks, Host: "alpha", Now: o.Now, IOTimeout: o.IOTimeout, FormatMaster: noFileSystem}); err != nil {
			return err
		}
	}
	b.said = said{master: domainID, version: 1}
	a, err := startPair(ctx, rec, &b.said, func() {})
	if err != nil {
		return err
	}
	for _, id := range pairIDs {
		if err := volumeOn(ctx, a, id, "old"); err != nil {
			return err
		}
	}
	if err := soilPair(ctx, a); err != nil {
		return err
	}
	if err := a.stop(ctx); err != nil {
		return err
	}
	b.pages = map[int64]bool{}
	for _, e := range rec.Log() {
		pagesOf(e, b.pages)
	}
	b.mem = rec.Device.(*blockdev.Mem)
	return nil
}

// soilPair leaves pages in the other domain's mailbox, and files on the master's volume.
func soilPair(ctx context.Context, a *pairAgent) error {
	for id, lv := range map[string]string{otherID: "inbox", domainID: "master"} {
		d, err := a.open(ctx, id)
		if err != nil {
			return err
		}
		dev, err := d.Device(lv)
		if err == nil {
			err = dev.WriteAt(ctx, bytes.Repeat([]byte("of long ago "), 512)[:4096], 8192)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func volumeOn(ctx context.Context, a *pairAgent, id, name string) error {
	_, err := a.role.CreateVolume(ctx, spm.CreateRequest{Key: name + id, Domain: id, Name: name + " on " + id, Size: 100 * mib})
	return err
}

// change is a recorded change of the master.
type masterHistory struct {
	base       *pairBase
	rec        *faulty.Recorder
	begin, end int
	recordedAt int // so many writes were out when the cluster was told
	epoch      uint64
}

func (b *pairBase) record(ctx context.Context, bug layer) (*masterHistory, error) {
	h := &masterHistory{base: b, rec: faulty.NewRecorder(b.mem.Clone())}
	var dev blockdev.Device = h.rec
	if bug != nil {
		dev = bug(dev)
	}
	s := b.said
	a, err := startPair(ctx, dev, &s, func() { h.recordedAt = h.rec.Len() })
	if err != nil {
		return nil, err
	}
	defer a.crash(ctx)
	time.Sleep(time.Second) // both domains are served
	h.begin, h.epoch = h.rec.Len(), s.epoch
	rep, err := a.role.SetMaster(ctx, spm.MasterRequest{Domain: otherID, By: "test"})
	if err != nil || !rep.Mirrored || h.recordedAt == 0 {
		return nil, fmt.Errorf("%+v, recorded at %d: %w", rep, h.recordedAt, err)
	}
	time.Sleep(time.Second) // the old lease is released, the mark is gone
	h.end = h.rec.Len()
	return h, nil
}

// saids are what Raft may have when a crash comes after n writes, if it was told of the new master after recordedAt; -1: never.
func saids(before said, n, recordedAt int) []said {
	after := said{master: otherID, version: 2, epoch: before.epoch}
	switch {
	case before.master == otherID || recordedAt < 0 || n < recordedAt:
		return []said{before}
	case n > recordedAt:
		return []said{after}
	}
	return []said{before, after}
}

// life is what a recovery wrote, and how many writes were out when it told the cluster of a new master; -1: it did not.
type life struct {
	rec        *faulty.Recorder
	recordedAt int
}

// judgeMaster recovers one state as the next SPM would, and says what is wrong.
func judgeMaster(ctx context.Context, lun *blockdev.Mem, s said, acked bool) (life, error) {
	told, l := s, life{rec: faulty.NewRecorder(lun), recordedAt: -1}
	a, err := startPair(ctx, l.rec, &told, func() { l.recordedAt = l.rec.Len() })
	if err != nil {
		return l, fmt.Errorf("unrecoverable: %w", err)
	}
	time.Sleep(5 * time.Second)
	if err := masterServes(ctx, a, &told, acked || s.master == otherID); err != nil {
		a.crash(ctx)
		return l, err
	}
	if err := a.stop(ctx); err != nil {
		return l, err
	}
	return l, pairClean(ctx, lun)
}

func masterServes(ctx context.Context, a *pairAgent, s *said, must bool) error {
	for n, id := range pairIDs {
		d, err := a.open(ctx, id)
		if err != nil {
			return err
		}
		m := d.Master()
		switch {
		case m.Next.Domain != "":
			return fmt.Errorf("a mark is left on domain %d: %+v", n, m)
		case m.Master != (id == s.master), m.Master && (!m.InForce(poolID) || m.Version != s.version || len(m.Members) != 2 || m.PoolName != "pool"):
			return fmt.Errorf("the cluster has %+v, domain %d says %+v", *s, n, m)
		case must && s.master != otherID:
			return errors.New("the new master was in force, and is not any more")
		}
		if err := hasOld(d, id); err != nil {
			return fmt.Errorf("domain %d: %w", n, err)
		}
		if id == otherID && m.Master {
			if err := freshMailbox(ctx, d); err != nil {
				return err
			}
		}
		if err := volumeOn(ctx, a, id, fmt.Sprintf("new %d", s.epoch)); err != nil {
			return fmt.Errorf("a volume on domain %d: %w", n, err)
		}
	}
	return nil
}

// hasOld looks for the volume of before. One that a recovery which was cut short had made may be there too.
func hasOld(d *domain.Domain, id string) error {
	old := 0
	for _, v := range d.Volumes() {
		switch {
		case v.Name == "old on "+id:
			old++
		case strings.HasPrefix(v.Name, "new "):
		default:
			return fmt.Errorf("a volume %q", v.Name)
		}
	}
	if old != 1 {
		return fmt.Errorf("%d volumes of before", old)
	}
	return nil
}

// freshMailbox: a new master must not take pages of long ago for requests, and has the files of the old one.
func freshMailbox(ctx context.Context, d *domain.Domain) error {
	for lv, want := range map[string]bool{"inbox": false, "master": true} {
		dev, err := d.Device(lv)
		if err != nil {
			return err
		}
		p := make([]byte, 4096)
		if err := dev.ReadAt(ctx, p, 8192); err != nil {
			return err
		}
		if got := bytes.HasPrefix(p, []byte("of long ago")); got != want {
			return fmt.Errorf("volume %s of the new master has the old bytes: %v", lv, got)
		}
	}
	return nil
}

func pairClean(ctx context.Context, lun blockdev.Device) error {
	var err error
	for n := range pairIDs {
		d, oerr := domain.Open(ctx, []blockdev.Device{half(lun, n)}, domainOptions())
		if oerr != nil {
			return oerr
		}
		found, cerr := domain.Check(ctx, d)
		err = errors.Join(err, cerr)
		for _, f := range found {
			err = errors.Join(err, fmt.Errorf("domain %d: %s", n, f))
		}
	}
	return err
}

// masterExplorer visits states of a change of the master.
type masterExplorer struct {
	t        *testing.T
	lim      limits
	sample   int // one in so many goes to the programs; 0: none
	states   int
	cut      int
	findings []string
	exhibits []exhibit
}

func (x *masterExplorer) bad(format string, args ...any) {
	x.findings = append(x.findings, fmt.Sprintf(format, args...))
}

func (x *masterExplorer) explore(b *pairBase, bug layer) {
	var h *masterHistory
	var err error
	synctest.Test(x.t, func(t *testing.T) { h, err = b.record(bubbleContext(t), bug) })
	if err != nil {
		x.bad("recording: %v", err)
		return
	}
	before := b.said
	before.epoch = h.epoch
	rnd := rand.New(rand.NewPCG(6, 6))
	w := b.newWrites(h.rec, b.mem, 0, nil)
	for n := h.begin; n <= h.end && len(x.findings) < 3; n++ {
		w.at(n, n == h.end, x.lim, rnd, func(st *state) {
			for _, s := range saids(before, n, h.recordedAt) {
				if len(x.findings) < 3 {
					x.visit(b, h, st, s, n == h.end)
				}
			}
		})
	}
}

// visit judges one state; where the recovery changed what the keys say it is cut short too, at each of its writes.
func (x *masterExplorer) visit(b *pairBase, h *masterHistory, st *state, s said, acked bool) {
	lun := st.build()
	crashed := lun.Clone()
	var l life
	var err error
	synctest.Test(x.t, func(t *testing.T) { l, err = judgeMaster(bubbleContext(t), lun, s, acked) })
	x.states++
	what := fmt.Sprintf("%s, the cluster says %+v", st, s)
	if err != nil {
		x.bad("%s: %v", what, err)
		return
	}
	pages := map[int64]bool{}
	for _, e := range append(h.rec.Log(), l.rec.Log()...) {
		pagesOf(e, pages)
	}
	if x.sample > 0 && x.states%x.sample == 0 {
		x.exhibits = append(x.exhibits, exhibit{name: what, crashed: crashed, settled: lun, pages: pages})
	}
	if s.master == domainID && marked(crashed) && x.states%20 == 0 {
		x.again(b, crashed, l, s, what, pages)
	}
}

// marked tells whether a change of the master is under way by what is on the disk.
func marked(lun *blockdev.Mem) bool {
	d, err := domain.Open(context.Background(), []blockdev.Device{half(lun, 0)}, domainOptions())
	return err == nil && d.Master().Next.Domain != ""
}

// again cuts a recovery short before each of its first writes.
func (x *masterExplorer) again(b *pairBase, crashed *blockdev.Mem, l life, s said, what string, pages map[int64]bool) {
	w := (&base{mem: crashed, pages: b.pages}).newWrites(l.rec, crashed, 0, pages)
	rnd := rand.New(rand.NewPCG(7, 7))
	for n := range min(l.rec.Len(), 40) {
		w.at(n, true, limits{subsets: 1}, rnd, func(st *state) {
			for _, s := range saids(s, n, l.recordedAt) {
				if len(x.findings) >= 3 {
					return
				}
				lun := st.build()
				var err error
				synctest.Test(x.t, func(t *testing.T) { _, err = judgeMaster(bubbleContext(t), lun, s, false) })
				if x.cut++; err != nil {
					x.bad("%s; then, recovering, %s, the cluster says %+v: %v", what, st, s, err)
				}
			}
		})
	}
}

// TestMaster_crash lets the SPM die at every write of a change of the master. Either the old or the new one is in force then, and the
// next SPM finishes or undoes it.
func TestMaster_crash(t *testing.T) {
	t.Parallel()
	b := newPairBase(t)
	x := &masterExplorer{t: t, lim: limits{subsets: 2, random: 1, cuts: 1}, sample: 25}
	if raceDetector {
		x.lim = limits{cuts: 1}
	}
	x.explore(b, nil)
	for _, f := range x.findings {
		t.Error(f)
	}
	t.Logf("%d states, %d recoveries cut short, %d for the programs", x.states, x.cut, len(x.exhibits))
	if x.states < 40 || x.cut < 10 {
		t.Error("so few states prove nothing")
	}
	if !t.Failed() && !raceDetector {
		judgePair(t, b, x.exhibits)
	}
}

// TestMaster_catches plants mistakes between the host and the disk.
func TestMaster_catches(t *testing.T) {
	t.Parallel()
	b := newPairBase(t)
	for name, plant := range map[string]struct {
		sees string
		bug  layer
	}{
		"nothing is flushed":         {"", func(d blockdev.Device) blockdev.Device { return noFlush{d} }},
		"the mailbox is not cleared": {"volume inbox of the new master", func(d blockdev.Device) blockdev.Device { return &noZeroes{d} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := &masterExplorer{t: t, lim: limits{subsets: 2, cuts: 1}}
			x.explore(b, plant.bug)
			if all := strings.Join(x.findings, "\n"); all == "" || !strings.Contains(all, plant.sees) {
				t.Fatalf("not caught in %d states: %.1000s", x.states, all)
			}
			t.Logf("%.300s", x.findings[0])
		})
	}
}

// noZeroes forgets to make anything zero.
type noZeroes struct{ blockdev.Device }

func (noZeroes) WriteZeroes(context.Context, int64, int64) error { return nil }

// judgePair gives states to vgck and lvs, as the crash left them and as they were made.
func judgePair(t *testing.T, b *pairBase, list []exhibit) {
	t.Helper()
	testutil.NeedTool(t, "lvm")
	j := &programs{t: t, base: &b.base, dir: t.TempDir(), pages: maps.Clone(b.pages)}
	var loops []string
	var segs []blockdev.Segment
	for n := range pairIDs {
		loops = append(loops, testutil.LoopDevice(t, testutil.MemoryFile(t, fmt.Sprint("half", n), lunSize), sector))
		dev, err := blockdev.Open(testutil.Deadline(t), loops[n], blockdev.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = dev.Close() })
		segs = append(segs, blockdev.Segment{Dev: dev, Len: lunSize})
	}
	var err error
	if j.lun, err = blockdev.NewLinear("both", segs); err != nil {
		t.Fatal(err)
	}
	config := `devices{filter=["a#^(` + strings.Join(loops, "|") + `)$#","r|.*|"] use_devicesfile=0 hints="none" obtain_device_list_from_udev=0 write_cache_state=0} ` +
		`global{event_activation=0 use_lvmpolld=0 use_aio=0} activation{monitoring=0 udev_sync=0 udev_rules=0 verify_udev_operations=0} backup{backup=0 archive=0}`
	if err := os.WriteFile(filepath.Join(j.dir, "lvm.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		for state, lun := range map[string]*blockdev.Mem{"crashed": e.crashed, "settled": e.settled} {
			if err := j.show(testutil.Deadline(t), lun, e.pages); err != nil {
				t.Fatal(err)
			}
			if err := j.pair(state == "crashed"); err != nil {
				t.Errorf("%s, %s: %v", e.name, state, err)
			}
		}
	}
}

// pair lets lvm2 judge both volume groups.
func (j *programs) pair(crashed bool) error {
	for _, id := range pairIDs {
		_, bad, err := j.lvm("vgck", id)
		if crashed && strings.Contains(bad, "ignoring metadata seqno") {
			bad = ""
		}
		if err != nil || bad != "" {
			return fmt.Errorf("vgck %s: %w: %s", id, err, bad)
		}
		out, bad, err := j.lvm("vgs", "--noheadings", "-o", "vg_tags", id)
		if err != nil || bad != "" && !crashed || !strings.Contains(out, "MDT_SDUUID="+id) || !strings.Contains(out, "MDT__SHA_CKSUM=") {
			return fmt.Errorf("vgs %s: %w: %s %s", id, err, bad, out)
		}
	}
	return nil
}
