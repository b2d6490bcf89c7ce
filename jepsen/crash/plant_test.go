package crash

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

// The planted mistakes are devices between the host and the recorder, which do what the program would do if it had them.

// headers of LVM's metadata areas. One whose second slot is empty commits the text of the first.
var lvmHeader = []byte("\x20LVM2 x[5A%r0N*>")

func isHeader(p []byte) bool { return len(p) == sector && bytes.Equal(p[4:20], lvmHeader) }

func commits(p []byte) bool { return isHeader(p) && bytes.Equal(p[64:88], make([]byte, 24)) }

// isText tells a text of LVM's metadata by its first words.
func isText(p []byte) bool { return bytes.HasPrefix(p, []byte(domainID+" {")) }

// earlyCommit writes the committed slot without a flush of the text before it.
type earlyCommit struct {
	blockdev.Device
	mu   sync.Mutex
	text bool // a text is out and not committed
}

func (d *earlyCommit) WriteAt(ctx context.Context, p []byte, off int64) error {
	d.mu.Lock()
	d.text = (d.text || isText(p)) && !commits(p)
	d.mu.Unlock()
	return d.Device.WriteAt(ctx, p, off)
}

func (d *earlyCommit) Flush(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.text {
		return nil
	}
	return d.Device.Flush(ctx)
}

// lastFlush forgets the flush behind a commit.
type lastFlush struct {
	blockdev.Device
	mu        sync.Mutex
	committed bool // since the last flush
}

func (d *lastFlush) WriteAt(ctx context.Context, p []byte, off int64) error {
	d.mu.Lock()
	d.committed = d.committed || commits(p)
	d.mu.Unlock()
	return d.Device.WriteAt(ctx, p, off)
}

func (d *lastFlush) Flush(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.committed {
		d.committed = false
		return nil
	}
	return d.Device.Flush(ctx)
}

// noFlush never flushes.
type noFlush struct{ blockdev.Device }

func (noFlush) Flush(context.Context) error { return nil }

// late holds some writes back until the first flush after a write that it waits for.
type late struct {
	blockdev.Device
	hold, wait func(p []byte) bool

	mu   sync.Mutex
	due  bool
	held []func(context.Context) error
}

func (d *late) WriteAt(ctx context.Context, p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hold(p) {
		data := bytes.Clone(p)
		d.held = append(d.held, func(ctx context.Context) error { return d.Device.WriteAt(ctx, data, off) })
		return nil
	}
	d.due = d.due || d.wait(p)
	return d.Device.WriteAt(ctx, p, off)
}

func (d *late) Flush(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.Device.Flush(ctx)
	for d.due && err == nil && len(d.held) > 0 {
		err = d.held[0](ctx)
		d.held = d.held[1:]
	}
	d.due = false
	return err
}

// forgetful leaves out some writes.
type forgetful struct {
	blockdev.Device
	drop func(p []byte) bool
}

func (d *forgetful) WriteAt(ctx context.Context, p []byte, off int64) error {
	if d.drop(p) {
		return nil
	}
	return d.Device.WriteAt(ctx, p, off)
}

// freedTwice gives the newest LV the extent of another one, as an allocator does that freed it twice. Text and checksums
// are right for that.
type freedTwice struct {
	blockdev.Device
	mu   sync.Mutex
	text []byte
}

var stripes = regexp.MustCompile(`"pv0", (\d+)`)

func (d *freedTwice) WriteAt(ctx context.Context, p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case isText(p):
		p = shareExtent(bytes.Clone(p))
		d.text = bytes.TrimRight(p, "\x00")
	case isHeader(p) && d.text != nil:
		p = bytes.Clone(p)
		for _, at := range []int{40, 64} {
			if size := int(binary.LittleEndian.Uint64(p[at+8:])); size == len(d.text)+1 {
				binary.LittleEndian.PutUint32(p[at+16:], lvmSum(append(slices.Clip(d.text), 0)))
			}
		}
		binary.LittleEndian.PutUint32(p, lvmSum(p[4:]))
	}
	return d.Device.WriteAt(ctx, p, off)
}

// shareExtent changes the last place in a text to the one before it, which has as many digits.
func shareExtent(text []byte) []byte {
	all := stripes.FindAllSubmatchIndex(text, -1)
	last, other := all[len(all)-1], all[len(all)-2]
	copy(text[last[2]:last[3]], text[other[2]:other[3]])
	return text
}

// lvmSum is the checksum of LVM.
func lvmSum(p []byte) uint32 {
	const first = 0xf597a6cf
	return ^crc32.Update(^uint32(first), crc32.IEEETable, p)
}

// plants are the mistakes, and sequences in which they matter.
var plants = []struct {
	name, kinds, sees string
	bug               layer
}{
	{"committed slot before the text is flushed", "r", "", func(d blockdev.Device) blockdev.Device { return &earlyCommit{Device: d} }},
	{"nothing is flushed", "q", "", func(d blockdev.Device) blockdev.Device { return noFlush{d} }},
	{"qcow2 header after the commit", "q", "begins with", func(d blockdev.Device) blockdev.Device {
		return &late{Device: d, wait: commits, hold: func(p []byte) bool { return bytes.HasPrefix(p, []byte("QFI\xfb")) }}
	}},
	{"metadata slot after the commit", "r", "", func(d blockdev.Device) blockdev.Device {
		return &late{Device: d, wait: commits, hold: func(p []byte) bool {
			return bytes.HasPrefix(p, []byte("CAP=")) && bytes.Contains(p, []byte("VOLTYPE=LEAF"))
		}}
	}},
	{"volume lease after the commit", "r", "lease in slot", func(d blockdev.Device) blockdev.Device {
		return &late{Device: d, wait: commits, hold: func(p []byte) bool { return isResource(p) && len(p) == 2*sector }}
	}},
	{"slot of a deleted volume not cleared", "d", "still calls it legal", func(d blockdev.Device) blockdev.Device {
		return &forgetful{d, func(p []byte) bool { return bytes.Contains(p, []byte("LEGALITY=ILLEGAL")) }}
	}},
	{"an update is acknowledged before it is flushed", "u", "acknowledged", func(d blockdev.Device) blockdev.Device {
		return &late{Device: d, wait: isResource, hold: func(p []byte) bool { return bytes.Contains(p, []byte(`"text 0"`)) }}
	}},
	{"label of a LUN after the commit that names it", "p", "", func(d blockdev.Device) blockdev.Device {
		return &late{Device: d, wait: commits, hold: func(p []byte) bool { return bytes.HasPrefix(p, []byte("LABELONE")) }}
	}},
	{"a LUN is added and nothing is flushed", "p", "", func(d blockdev.Device) blockdev.Device { return noFlush{d} }},
	{"an extension is acknowledged before it is flushed", "e", "acknowledged", func(d blockdev.Device) blockdev.Device { return &lastFlush{Device: d} }},
	{"an extension takes an extent that another volume has", "e", "share extent", func(d blockdev.Device) blockdev.Device { return &freedTwice{Device: d} }},
	{"an extent freed twice", "r", "share extent", func(d blockdev.Device) blockdev.Device { return &freedTwice{Device: d} }},
	{"record of an external lease before its resource", "l", "", func(d blockdev.Device) blockdev.Device {
		return &late{Device: d, hold: func(p []byte) bool { return isResource(p) && len(p) > 2*sector },
			wait: func(p []byte) bool { return bytes.Contains(p, []byte(leaseID(3))) }}
	}},
}

// isResource tells the leader of a resource lease by its first bytes.
func isResource(p []byte) bool { return bytes.HasPrefix(p, []byte{0x10, 0x20, 0x15, 0x06}) }

// TestExplore_catches: each planted mistake is found, and without it nothing is.
func TestExplore_catches(t *testing.T) {
	t.Parallel()
	b := newBase(t)
	for _, plant := range plants {
		t.Run(plant.name, func(t *testing.T) {
			t.Parallel()
			x := &explorer{base: b, lim: limits{subsets: 4, random: 2, cuts: 2}}
			r := x.explore(t, plant.kinds, 1, plant.bug)
			if len(r.findings) == 0 {
				t.Fatalf("not caught: %v", &x.count)
			}
			t.Logf("after %d states: %.300s", x.count.states.Load(), strings.ReplaceAll(r.findings[0].String(), "\n", "; "))
			if !strings.Contains(r.findings[0].String(), plant.sees) {
				t.Errorf("want it to be seen by %q", plant.sees)
			}
		})
	}
}
