package interop

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/clock"
	"github.com/holdfast-io/holdfast/leases"
)

const (
	space = "LS"
	mib   = 1 << 20
	// resources is how many leases lie behind the lockspace, named res1 and so on; the counter is behind them.
	resources = 8
	// watchdog is W of sanlock 3.8.5.
	watchdog = 60 * time.Second
)

// lun is a file, or a loop device over one, that hosts of both kinds use.
type lun struct {
	dir  string // short, for the sockets of the daemons
	path string
	geo  leases.Geometry

	t    testing.TB // of the test that made it
	once sync.Once
	eye  blockdev.Device // for looking at what hosts wrote
}

// lunOptions are what a test may want otherwise.
type lunOptions struct {
	geo   leases.Geometry
	n     time.Duration // of the free records
	hosts int           // of the resources; 0 is as many as fit
}

// newLUN makes a lockspace at 0 and the resources behind it.
func newLUN(t testing.TB, o lunOptions) *lun {
	t.Helper()
	if o.geo == (leases.Geometry{}) {
		o.geo = leases.Geometry512
	}
	if o.n == 0 {
		o.n = fast
	}
	l := &lun{dir: shortDir(t), geo: o.geo, t: t}
	l.path = filepath.Join(l.dir, "lun")
	if err := os.WriteFile(l.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(l.path, l.counter()+l.geo.AlignSize); err != nil {
		t.Fatal(err)
	}
	l.initialise(t, o)
	return l
}

// initialise writes lockspace, resources and a counter of zero.
func (l *lun) initialise(t testing.TB, o lunOptions) {
	t.Helper()
	ctx, dev := within(t, time.Minute), l.open(t)
	if err := leases.InitLockspace(ctx, dev, 0, l.geo, space, o.n); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= resources; i++ {
		if err := leases.InitResource(ctx, dev, l.offset(i), l.geo, space, resName(i), o.hosts); err != nil {
			t.Fatal(err)
		}
	}
	if err := dev.WriteAt(ctx, (&counter{}).encode(l.geo.SectorSize), l.counter()); err != nil {
		t.Fatal(err)
	}
}

// shortDir is a directory whose path leaves room for the name of a unix socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hfi") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func resName(i int) string { return fmt.Sprintf("res%d", i) }

// offset is where resource i begins.
func (l *lun) offset(i int) int64 { return int64(i) * l.geo.AlignSize }

func (l *lun) counter() int64 { return l.offset(resources + 1) }

// open opens the file once more, until the end of the test.
func (l *lun) open(t testing.TB) blockdev.Device {
	t.Helper()
	d, err := blockdev.Open(within(t, 10*time.Second), l.path, blockdev.Options{SectorSize: l.geo.SectorSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// theirs is resource i in sanlock's words.
func (l *lun) theirs(i int) string {
	return fmt.Sprintf("%s:%s:%s:%d", space, resName(i), l.path, l.offset(i))
}

// sectorAt reads one sector.
func (l *lun) sectorAt(t testing.TB, off int64) []byte {
	t.Helper()
	b := make([]byte, l.geo.SectorSize)
	l.once.Do(func() { l.eye = l.open(l.t) })
	if err := l.eye.ReadAt(within(t, 10*time.Second), b, off); err != nil {
		t.Fatal(err)
	}
	return b
}

// write writes whole sectors.
func (l *lun) write(t testing.TB, b []byte, off int64) {
	t.Helper()
	if err := l.open(t).WriteAt(within(t, 10*time.Second), b, off); err != nil {
		t.Fatal(err)
	}
}

// record is the lockspace record of a host.
func (l *lun) record(t testing.TB, host int) leases.Leader {
	t.Helper()
	return decode(t, l.sectorAt(t, int64(host-1)*int64(l.geo.SectorSize)))
}

// leader is the leader of resource i.
func (l *lun) leader(t testing.TB, i int) leases.Leader {
	t.Helper()
	return decode(t, l.sectorAt(t, l.offset(i)))
}

func decode(t testing.TB, b []byte) leases.Leader {
	t.Helper()
	var rec leases.Leader
	if err := rec.Decode(b); err != nil {
		t.Fatal(err)
	}
	return rec
}

// block is the block of a host in resource i.
func (l *lun) block(t testing.TB, i, host int) leases.DBlock {
	t.Helper()
	var d leases.DBlock
	if err := d.Decode(l.sectorAt(t, l.offset(i)+int64(host+1)*int64(l.geo.SectorSize))); err != nil {
		t.Fatal(err)
	}
	return d
}

// counter is the sector that every holder increments. testdata/client.c has the same layout.
type counter struct {
	total, version, slot uint64
	own                  [60]uint64
}

const counterMagic = 0x686f6c6466617374

func (c *counter) encode(sector int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint64(nil, counterMagic)
	for _, v := range []uint64{c.total, c.version, c.slot} {
		b = le.AppendUint64(b, v)
	}
	for _, v := range c.own {
		b = le.AppendUint64(b, v)
	}
	return append(b, make([]byte, sector-len(b))...)
}

func (c *counter) decode(b []byte) error {
	le := binary.LittleEndian
	if m := le.Uint64(b); m != counterMagic {
		return fmt.Errorf("the counter is gone: magic %#x", m)
	}
	c.total, c.version, c.slot = le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])
	for i := range c.own {
		c.own[i] = le.Uint64(b[32+8*i:])
	}
	return nil
}

// within is a context that ends with the test or after d. Unlike testutil.Deadline it may be longer than a minute.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// boot is the clock of our timestamps.
func boot() time.Duration { return clock.System{}.Boot() }

// monotonic is the clock of sanlock's timestamps.
func monotonic(t testing.TB) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// retry calls f until it returns nil, like testutil.Retry, but as slowly as a daemon's loops are.
func retry(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	err := f()
	for end := time.Now().Add(limit); err != nil; err = f() {
		if time.Now().After(end) {
			t.Fatalf("still failing after %v: %v", limit, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
