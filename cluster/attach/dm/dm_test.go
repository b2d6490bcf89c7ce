package dm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	kernel "github.com/holdfast-io/holdfast/blockdev/mapper/dm"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// The test binary plays the holder too.
const asHolder = "HOLDFAST_DM_TEST_HOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asHolder); dir != "" {
		err := Main(context.Background(), Process{Spec: os.NewFile(3, "spec"), Ready: os.NewFile(4, "ready"), Devices: files{dir},
			Guard: func(s Spec) (blockdev.Guard, error) { return right{strings.Trim(string(s.Guard), `"`)}, nil }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// right is a guard that holds as long as a file is there.
type right struct{ path string }

func (r right) Epoch() uint64 { return 1 }
func (r right) Check(time.Duration) error {
	if _, err := os.Stat(r.path); err != nil {
		return fmt.Errorf("%w: %w", blockdev.ErrLeaseLost, err)
	}
	return nil
}

// simDevice is a device of a kernel that lives in a file: what a real one does is tested in package dm of blockdev.
type simDevice struct {
	Bytes  int64
	Open   int
	Frozen bool // I/O is held
	Fails  bool // I/O fails
}

// passes tells whether a write goes through.
func (d simDevice) passes() bool { return !d.Frozen && !d.Fails }

// files are devices as several processes share them.
type files struct{ dir string }

func (f files) change(uuid string, do func(d *simDevice) error) (simDevice, error) {
	lock, err := os.OpenFile(filepath.Join(f.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return simDevice{}, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return simDevice{}, err
	}
	path := filepath.Join(f.dir, uuid)
	var d *simDevice
	if b, err := os.ReadFile(path); err == nil {
		d = &simDevice{}
		if err := json.Unmarshal(b, d); err != nil {
			return simDevice{}, err
		}
	}
	was := d
	if d == nil {
		d = &simDevice{Bytes: -1}
	}
	if err := do(d); err != nil {
		return *d, err
	}
	if d.Bytes < 0 {
		if was != nil {
			return simDevice{}, os.Remove(path)
		}
		return simDevice{}, nil
	}
	b, err := json.Marshal(d)
	if err != nil {
		return *d, err
	}
	return *d, os.WriteFile(path, b, 0o600)
}

func total(e kernel.Extents) (n int64) {
	for _, r := range e.Runs {
		n += r.LengthBytes
	}
	return n
}

func (f files) shown(id kernel.Identity, d simDevice, err error) (kernel.Device, error) {
	return kernel.Device{Name: id.Name, UUID: id.UUID, Path: filepath.Join(f.dir, id.UUID), OpenCount: d.Open,
		Table: kernel.Table{{Length: d.Bytes / 512}}}, err
}

func (f files) Activate(_ context.Context, v kernel.Source) (kernel.Device, error) {
	e := v.(kernel.Extents)
	d, err := f.change(e.Identity.UUID, func(d *simDevice) error {
		if !d.passes() && d.Open > 0 && !e.Held {
			return kernel.ErrFrozen
		}
		d.Bytes, d.Frozen, d.Fails = max(d.Bytes, total(e)), false, false
		return nil
	})
	return f.shown(e.Identity, d, err)
}

func (f files) Refresh(_ context.Context, v kernel.Source) (kernel.Device, error) {
	e := v.(kernel.Extents)
	d, err := f.change(e.Identity.UUID, func(d *simDevice) error {
		if d.Bytes < 0 {
			return kernel.ErrNotActive
		}
		d.Bytes, d.Frozen = max(d.Bytes, total(e)), false // a resume, which lets held I/O through
		return nil
	})
	return f.shown(e.Identity, d, err)
}

func (f files) Deactivate(_ context.Context, id kernel.Identity) error {
	_, err := f.change(id.UUID, func(d *simDevice) error {
		if d.Open > 0 {
			return kernel.ErrOpen
		}
		d.Bytes = -1
		return nil
	})
	return err
}

func (f files) Look(_ context.Context, uuid string) (kernel.Device, error) {
	d, err := f.change(uuid, func(d *simDevice) error {
		if d.Bytes < 0 {
			return kernel.ErrNotActive
		}
		return nil
	})
	return f.shown(kernel.Identity{UUID: uuid}, d, err)
}

func (f files) Freeze(_ context.Context, id kernel.Identity) error {
	_, err := f.change(id.UUID, func(d *simDevice) error { d.Frozen = d.Frozen || !d.Fails; return nil })
	return err
}

func (f files) Fail(_ context.Context, id kernel.Identity) error {
	_, err := f.change(id.UUID, func(d *simDevice) error { d.Frozen, d.Fails = false, true; return nil })
	return err
}

// device is the one device of a bench; not there: no writes pass.
func (b *bench) device() (simDevice, bool) {
	d, err := b.kernel.change(devUUID, func(*simDevice) error { return nil })
	if err != nil {
		b.t.Fatal(err)
	}
	return d, d.Bytes > 0
}

func (b *bench) open(n int) {
	if _, err := b.kernel.change(devUUID, func(d *simDevice) error { d.Open = n; return nil }); err != nil {
		b.t.Fatal(err)
	}
}

const (
	mib     = 1 << 20
	domID   = "0f8a3c52-51d1-4f0e-8d2b-7d5a0f3f2b02"
	volID   = "a3b4c5d6-0000-4000-8000-000000000001"
	devUUID = "LVM-device"
)

type bench struct {
	*Mapper
	t      *testing.T
	kernel files
	volume attach.Volume
	lease  string // its being there is the lease
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-dm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bench{t: t, kernel: files{filepath.Join(dir, "k")}, lease: filepath.Join(dir, "lease")}
	if err := errors.Join(os.Mkdir(b.kernel.dir, 0o700), os.WriteFile(b.lease, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	b.Mapper, err = New(Config{Dir: filepath.Join(dir, "s"), Spawn: b.spawn, Page: func() (*os.File, error) { return os.Open(dir) }, Devices: b.kernel,
		Mappable: func(path string) error {
			if !strings.HasPrefix(path, "/dev/") {
				return errors.New("no block device")
			}
			return nil
		}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b.volume = attach.Volume{ID: volID, Domain: domID, SizeBytes: 16 * mib, Segments: []attach.Segment{{Device: "/dev/lun", LengthBytes: 4 * mib}},
		Device: attach.Device{Name: "vg-lv", UUID: devUUID}}
	return b
}

func (b *bench) spawn(*os.File) (attach.Child, error) {
	specR, specW, err := os.Pipe()
	if err != nil {
		return attach.Child{}, err
	}
	defer specR.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return attach.Child{}, err
	}
	defer readyW.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asHolder+"="+b.kernel.dir)
	cmd.ExtraFiles = []*os.File{specR, readyW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return attach.Child{}, err
	}
	c := attach.Child{PID: cmd.Process.Pid, Spec: specW, Ready: readyR}
	return c, cmd.Process.Release()
}

// mapped is the volume, and the record that an agent would have of it.
func (b *bench) mapped(again bool) (attach.Mapping, attach.Record, error) {
	b.t.Helper()
	ctx := testutil.Deadline(b.t)
	p, err := b.Prepare(ctx, b.volume, false)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = p.Cancel(testutil.Deadline(b.t)) })
	m, err := p.Map(ctx, attach.MapRequest{Volume: b.volume, Again: again, Held: attach.Held{Version: 1, Guard: fmt.Appendf(nil, "%q", b.lease)}})
	if err == nil {
		b.t.Cleanup(func() { _ = m.Close() })
	}
	return m, attach.Record{Domain: domID, Volume: volID, Process: p.Process(), Device: b.volume.Device, Size: 16 * mib}, err
}

func (b *bench) must(again bool) (attach.Mapping, attach.Record) {
	b.t.Helper()
	m, r, err := b.mapped(again)
	if err != nil {
		b.t.Fatal(err)
	}
	return m, r
}

func (b *bench) awaitGone(m attach.Mapping) {
	b.t.Helper()
	for seq := uint64(0); ; {
		st, err := m.Watch(testutil.Deadline(b.t), seq)
		if errors.Is(err, attach.ErrGone) {
			return
		}
		if err != nil {
			b.t.Fatal(err)
		}
		seq = st.Seq
	}
}

// A volume is made, grown, found again by the next agent, and removed.
func TestMapper_life(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := testutil.Deadline(t)
	m, rec := b.must(false)
	if d, ok := b.device(); !ok || d.Bytes != 4*mib || !d.passes() || m.Where().Path == "" || m.Where().URI != "" {
		t.Fatalf("%+v, %+v", d, m.Where())
	}
	if st, err := m.Status(ctx); err != nil || st.AllocatedBytes != 4*mib || st.SizeBytes != 16*mib || st.Clients != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	more := append(b.volume.Segments, attach.Segment{Device: "/dev/lun2", LengthBytes: 2 * mib})
	for _, segs := range [][]attach.Segment{more, b.volume.Segments} { // the second is old news
		if st, err := m.Grow(ctx, segs); err != nil || st.AllocatedBytes != 6*mib {
			t.Errorf("%+v, %v", st, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	m, err := b.Find(ctx, rec)
	if err != nil {
		t.Fatal(err)
	}
	other := rec
	other.Process.PID++
	if _, err := b.Find(ctx, other); !errors.Is(err, attach.ErrNotMapped) {
		t.Errorf("another process's: %v", err)
	}
	// Open, it cannot be removed; it fails everything from then on, and the lease stays with its holder.
	b.open(1)
	if err := m.Detach(ctx); !errors.Is(err, attach.ErrStillThere) || !errors.Is(err, kernel.ErrOpen) || !strings.Contains(err.Error(), m.Where().Path) {
		t.Errorf("detach under a user: %v", err)
	}
	if d, _ := b.device(); d.passes() {
		t.Errorf("%+v", d)
	}
	b.open(0)
	if err := m.Detach(ctx); err != nil {
		t.Error(err)
	}
	if d, ok := b.device(); ok {
		t.Errorf("left: %+v", d)
	}
	if err := errors.Join(m.Detach(ctx), b.Clear(ctx, rec), m.Close()); err != nil {
		t.Errorf("again: %v", err)
	}
}

// The right to write ends, or the holder is told to end: nothing passes when it is gone. Nobody who had the device open goes on, but
// when it is said that nobody else had the volume.
func TestMapper_lost(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *bench, r attach.Record) error{
		"lease": func(b *bench, _ attach.Record) error { return os.Remove(b.lease) },
		"told":  func(_ *bench, r attach.Record) error { return syscall.Kill(r.Process.PID, syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			ctx := testutil.Deadline(t)
			m, rec := b.must(false)
			b.open(1)
			if err := end(b, rec); err != nil {
				t.Fatal(err)
			}
			b.awaitGone(m)
			h, err := attach.OpenProcess(rec.Process)
			if err == nil {
				err = errors.Join(attach.AwaitProcess(ctx, h), h.Close())
				if err != nil {
					t.Fatal(err)
				}
			}
			if d, _ := b.device(); d.passes() || !d.Frozen {
				t.Fatalf("the holder has ended, and the device is %+v", d)
			}
			if name == "lease" {
				if _, _, err := b.mapped(true); !errors.Is(err, blockdev.ErrLeaseLost) {
					t.Errorf("without a lease: %v", err)
				}
				if err := os.WriteFile(b.lease, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := b.mapped(false); !errors.Is(err, kernel.ErrFrozen) {
				t.Errorf("as if nobody had it open: %v", err)
			}
			if d, _ := b.device(); d.passes() {
				t.Fatalf("a refused mapping let writes pass: %+v", d)
			}
			m, rec = b.must(true)
			if d, _ := b.device(); !d.passes() {
				t.Errorf("made again: %+v", d)
			}
			if err := b.End(ctx, rec); err != nil {
				t.Error(err)
			}
			b.awaitGone(m)
			if d, _ := b.device(); d.passes() || !d.Frozen {
				t.Errorf("ended: %+v", d)
			}
			if err := b.Fail(ctx, rec); err != nil {
				t.Error(err)
			}
			if d, _ := b.device(); d.passes() || !d.Fails {
				t.Errorf("failed: %+v", d)
			}
			if err := b.Clear(ctx, rec); !errors.Is(err, attach.ErrStillThere) || !errors.Is(err, kernel.ErrOpen) {
				t.Errorf("clear under a user: %v", err)
			}
			b.open(0)
			if err := b.Clear(ctx, rec); err != nil {
				t.Error(err)
			}
			if d, ok := b.device(); ok {
				t.Errorf("left: %+v", d)
			}
		})
	}
}

func TestMapper_fits(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.Fits(b.volume); err != nil {
		t.Error(err)
	}
	v := b.volume
	v.Segments = append(v.Segments, attach.Segment{Device: "nbd://server/x", LengthBytes: mib})
	if err := b.Fits(v); !errors.Is(err, kernel.ErrUnmappable) {
		t.Errorf("%v", err)
	}
}

// An agent that dies before the specification is sent leaves nothing; a second holder of a device is refused.
func TestHolder_starts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := testutil.Deadline(t)
	p, err := b.Prepare(ctx, b.volume, false)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.(*prepared).closePipes()
	h, err := attach.OpenProcess(p.Process())
	if err == nil {
		if err := errors.Join(attach.AwaitProcess(ctx, h), h.Close()); err != nil {
			t.Error(err)
		}
	}
	if _, ok := b.device(); ok {
		t.Error("it made a device of its own accord")
	}
	b.must(false)
	b.open(1)
	if _, _, err := b.mapped(true); !errors.Is(err, errInUse) {
		t.Errorf("a second holder: %v", err)
	}
	if d, _ := b.device(); !d.passes() {
		t.Errorf("the second one's refusal cut the device of the first off: %+v", d)
	}
}
