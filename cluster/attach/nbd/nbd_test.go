package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/mapper/export"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// The test binary plays the export's process too.
const asExport = "HOLDFAST_NBD_TEST_EXPORT"

func TestMain(m *testing.M) {
	if os.Getenv(asExport) != "" {
		err := export.Main(context.Background(), export.Process{Spec: os.NewFile(3, "spec"), Ready: os.NewFile(4, "ready"), Guard: guard,
			Log: slog.New(slog.DiscardHandler)})
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

// guard wants the page that the process was started with, and the lease's name in the specification.
func guard(_ context.Context, s export.Spec) (blockdev.Guard, error) {
	if _, err := os.NewFile(5, "page").Stat(); err != nil {
		return nil, err
	}
	return right{strings.Trim(string(s.Guard), `"`)}, nil
}

func spawn(page *os.File) (Child, error) {
	specR, specW, err := os.Pipe()
	if err != nil {
		return Child{}, err
	}
	defer specR.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return Child{}, err
	}
	defer readyW.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asExport+"=1")
	cmd.ExtraFiles = []*os.File{specR, readyW}
	if page != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, page)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Child{}, err
	}
	c := Child{PID: cmd.Process.Pid, Spec: specW, Ready: readyR}
	return c, cmd.Process.Release()
}

// bench is a volume on a LUN that is a file.
type bench struct {
	*Mapper
	volume attach.Volume
	lease  string // its being there is the lease
	page   string
}

const (
	mib    = 1 << 20
	domID  = "0f8a3c52-51d1-4f0e-8d2b-7d5a0f3f2b02"
	volID  = "a3b4c5d6-0000-4000-8000-000000000001"
	extent = 4 * mib
)

func newBench(t *testing.T) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-nbd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bench{lease: filepath.Join(dir, "lease"), page: filepath.Join(dir, "page")}
	lun := filepath.Join(dir, "lun")
	for _, f := range []string{b.lease, b.page, lun} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(lun, 64*mib); err != nil {
		t.Fatal(err)
	}
	b.Mapper, err = New(Config{Dir: filepath.Join(dir, "s"), Spawn: spawn, Page: func() (*os.File, error) { return os.Open(b.page) },
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b.volume = attach.Volume{ID: volID, Domain: domID, SizeBytes: 16 * mib, Segments: []attach.Segment{{Device: lun, OffsetBytes: 8 * mib, LengthBytes: extent}},
		IOTimeout: 10 * time.Second}
	return b
}

func (b *bench) prepare(t *testing.T, readOnly bool) attach.Prepared {
	t.Helper()
	p, err := b.Prepare(testutil.Deadline(t), b.volume, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Cancel(testutil.Deadline(t)) })
	return p
}

func (b *bench) request(readOnly bool) attach.MapRequest {
	return attach.MapRequest{Volume: b.volume, ReadOnly: readOnly, ThresholdBytes: mib, Held: attach.Held{Version: 1, Guard: fmt.Appendf(nil, "%q", b.lease)}}
}

func (b *bench) mapped(t *testing.T) (attach.Mapping, attach.Record) {
	t.Helper()
	p := b.prepare(t, false)
	m, err := p.Map(testutil.Deadline(t), b.request(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m, attach.Record{Domain: domID, Volume: volID, Process: p.Process()}
}

func client(t *testing.T, m attach.Mapping) blockdev.Device {
	t.Helper()
	d, err := blockdev.Open(testutil.Deadline(t), m.Where().URI, blockdev.Options{IOTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func ended(t *testing.T, p attach.Process) {
	t.Helper()
	testutil.Retry(t, 10*time.Second, func() error {
		h, err := attach.OpenProcess(p)
		if err != nil {
			return nil
		}
		defer h.Close()
		return h.Wait(t.Context())
	})
}

// A volume is written through its address, grows while a write waits for it, is found again, and detached with its data.
func TestMapper_life(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := testutil.Deadline(t)
	m, rec := b.mapped(t)
	d := client(t, m)
	buf := make([]byte, mib)
	for i := range buf {
		buf[i] = 0x5a
	}
	if err := d.WriteAt(ctx, buf, 3*mib); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- d.WriteAt(ctx, buf, 5*mib) }()
	var st attach.Status
	for st.Waiting == 0 {
		var err error
		if st, err = m.Watch(ctx, st.Seq); err != nil {
			t.Fatal(err)
		}
	}
	if !st.Low || st.WantBytes != 6*mib || st.AllocatedBytes != extent || st.SizeBytes != 16*mib || st.Clients != 1 {
		t.Errorf("%+v", st)
	}
	more := append(b.volume.Segments, attach.Segment{Device: b.volume.Segments[0].Device, OffsetBytes: 32 * mib, LengthBytes: extent})
	if st, err := m.Grow(ctx, more); err != nil || st.AllocatedBytes != 2*extent {
		t.Errorf("%+v, %v", st, err)
	}
	if err := <-written; err != nil {
		t.Errorf("the write that waited: %v", err)
	}
	again, err := b.Find(ctx, rec)
	if err != nil || again.Where() != m.Where() {
		t.Fatalf("found %+v, %v", again, err)
	}
	defer again.Close()
	other := rec
	other.Process.PID++
	if _, err := b.Find(ctx, other); !errors.Is(err, attach.ErrNotMapped) {
		t.Errorf("another process's: %v", err)
	}
	if err := again.Detach(ctx); err != nil {
		t.Errorf("detach: %v", err)
	}
	ended(t, rec.Process)
	if _, err := m.Watch(ctx, 0); !errors.Is(err, attach.ErrGone) {
		t.Errorf("watching what is gone: %v", err)
	}
	if err := m.Detach(ctx); err != nil {
		t.Errorf("detach of what is gone: %v", err)
	}
	lun, err := os.ReadFile(b.volume.Segments[0].Device)
	if err != nil || lun[11*mib] != 0x5a || lun[33*mib] != 0x5a || lun[32*mib] != 0 {
		t.Errorf("the data is not where the segments say: %v", err)
	}
}

// The guard's word is asked for each write; a lease that is gone is an I/O error to the client, and counted.
func TestMapper_leaseLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := testutil.Deadline(t)
	m, _ := b.mapped(t)
	d := client(t, m)
	if err := os.Remove(b.lease); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteAt(ctx, make([]byte, 4096), 0); err == nil {
		t.Error("a write without a lease")
	}
	if st, err := m.Status(ctx); err != nil || st.LeaseErrors == 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestMapper_notLetGo: a process that never got its specification ends with the pipe, as when the agent dies, and by Cancel.
func TestMapper_notLetGo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.prepare(t, false)
	if err := p.(*prepared).closePipes(); err != nil {
		t.Fatal(err)
	}
	ended(t, p.Process())
	p = b.prepare(t, true)
	if err := p.Cancel(testutil.Deadline(t)); err != nil {
		t.Error(err)
	}
	ended(t, p.Process())
	if _, err := b.Find(testutil.Deadline(t), attach.Record{Domain: domID, Volume: volID, Process: p.Process()}); !errors.Is(err, attach.ErrNotMapped) {
		t.Errorf("find: %v", err)
	}
}

// TestMapper_anotherKeeper: the page that a process was given is not the one that the lease is published in.
func TestMapper_anotherKeeper(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.prepare(t, false)
	if err := errors.Join(os.Rename(b.page, b.page+".old"), os.WriteFile(b.page, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Map(testutil.Deadline(t), b.request(false)); !errors.Is(err, keeper.ErrGone) {
		t.Errorf("%v", err)
	}
}

// End kills what a record names, and nothing that has its number by now.
func TestMapper_end(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := testutil.Deadline(t)
	_, rec := b.mapped(t)
	other := rec
	other.Process.StartTime++
	if err := b.End(ctx, other); err != nil {
		t.Error(err)
	}
	if m, err := b.Find(ctx, rec); err != nil {
		t.Errorf("a process with another start time was ended: %v", err)
	} else {
		_ = m.Close()
	}
	if err := b.End(ctx, rec); err != nil {
		t.Error(err)
	}
	ended(t, rec.Process)
	if err := b.End(ctx, rec); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := b.Find(ctx, rec); !errors.Is(err, attach.ErrNotMapped) {
		t.Errorf("find: %v", err)
	}
}

func TestMapper_badInput(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := testutil.Deadline(t)
	p := b.prepare(t, false)
	r := b.request(false)
	r.Volume.Segments = nil
	if _, err := p.Map(ctx, r); !errors.Is(err, export.ErrConfig) {
		t.Errorf("no segments: %v", err)
	}
	p = b.prepare(t, true)
	r = b.request(true)
	r.Volume.Segments = []attach.Segment{{Device: b.lease + ".no", LengthBytes: mib}}
	if _, err := p.Map(ctx, r); err == nil {
		t.Error("no device")
	}
	long, err := New(Config{Dir: filepath.Join(t.TempDir(), strings.Repeat("x", 80)), Spawn: spawn, Page: b.cfg.Page, Log: b.cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := long.Prepare(ctx, b.volume, true); !errors.Is(err, export.ErrConfig) {
		t.Errorf("a long path: %v", err)
	}
	var dialer net.Dialer
	if c, err := dialer.DialContext(ctx, "unix", filepath.Join(b.cfg.Dir, "none")); err == nil {
		_ = c.Close()
		t.Error("something listens")
	}
}
