package dm

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
)

const (
	mib    = 1 << 20
	extent = 4 * mib
)

// bench is a volume group of two LUNs in memory, and a simulated kernel that knows the LUNs.
type bench struct {
	t      testing.TB
	group  *lvm2.Group
	kernel *simKernel
	dir    string
}

var lunNumbers = map[string]Number{"/dev/mapper/lun0": {254, 0}, "/dev/mapper/lun1": {254, 16}}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	var devs []blockdev.Device
	luns := map[Number]int64{}
	for _, path := range []string{"/dev/mapper/lun0", "/dev/mapper/lun1"} {
		d := blockdev.NewMem(64*mib, 512).Rename(path)
		devs = append(devs, d)
		luns[lunNumbers[path]] = d.Size() / sectorSize
	}
	g, err := lvm2.Create(deadline(t), lvm2.CreateOptions{Name: "vg-one", ExtentSize: extent, MetadataSize: mib, Devices: devs}, yes{})
	if err != nil {
		t.Fatal(err)
	}
	b.group, b.kernel = g, newSimKernel(luns)
	return b
}

// yes is a right to write that never ends.
type yes struct{}

func (yes) Check(time.Duration) error { return nil }
func (yes) Epoch() uint64             { return 1 }

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (b *bench) commit(what string, change func(*lvm2.Tx) error) {
	b.t.Helper()
	tx := b.group.Begin()
	if err := change(tx); err != nil {
		b.t.Fatal(err)
	}
	if err := b.group.Commit(deadline(b.t), tx, yes{}, what); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) create(name string, extents int64) {
	b.t.Helper()
	b.commit("create", func(tx *lvm2.Tx) error {
		_, err := tx.CreateLV(name, extents*extent, lvm2.LVOptions{})
		return err
	})
}

func (b *bench) extend(name string, extents int64) {
	b.t.Helper()
	b.commit("extend", func(tx *lvm2.Tx) error {
		_, err := tx.ExtendLV(name, extents*extent)
		return err
	})
}

func (b *bench) volume(name string) Volume {
	v := Volume{VG: b.group.VG(), Name: name}
	for _, d := range b.group.Devices() {
		v.PVs = append(v.PVs, d.Name())
	}
	return v
}

func (b *bench) uuid(name string) string { return UUID(b.group.VG(), b.group.VG().LV(name)) }

func (b *bench) id(name string) Identity {
	return Identity{Name: Name(b.group.VG().Name, name), UUID: b.uuid(name)}
}

// mapper is a life of the program on the simulated kernel. Nodes are files that hold a number.
func (b *bench) mapper(p *process) *Mapper {
	b.t.Helper()
	c := DefaultConfig()
	c.Kernel, c.Dir, c.udev = p, b.dir, noUdev{}
	c.Log = slog.New(slog.DiscardHandler)
	c.UID, c.GID = os.Getuid(), os.Getgid()
	c.resolve = func(path string) (pvDevice, error) {
		n, ok := lunNumbers[path]
		if !ok {
			return pvDevice{}, fmt.Errorf("%w: %s", ErrUnmappable, path)
		}
		return pvDevice{path: path, number: n, sectors: b.kernel.luns[n]}, nil
	}
	c.nodes = &nodes{dir: b.dir, mode: c.Mode, uid: c.UID, gid: c.GID, number: readNode,
		mknod: func(path string, n Number, mode os.FileMode) error {
			return p.do(func() error { return os.WriteFile(path, []byte(n.String()), mode) })
		}}
	m, err := New(c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			b.t.Error(err)
		}
	})
	return m
}

func readNode(path string) (Number, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Number{}, err
	}
	return parseNumber(string(b))
}

// finished judges a device that an operation, or a recovery, is through with: what the metadata says is in force, nothing
// waits, I/O flows and the node is right.
func (b *bench) finished(name string) error {
	d, ok := b.kernel.device(b.uuid(name))
	switch {
	case !ok:
		return fmt.Errorf("no device")
	case d.suspended:
		return fmt.Errorf("suspended")
	case d.live == nil:
		return fmt.Errorf("no table")
	case d.idle != nil:
		return fmt.Errorf("a table waits:\n%v", d.idle.t)
	}
	v := b.volume(name)
	want, err := expected(v)
	if err != nil {
		return err
	}
	if got := d.live.t.String(); got != want {
		return fmt.Errorf("it maps\n%s\nnot\n%s", got, want)
	}
	if n, err := readNode(b.dir + "/" + d.name); err != nil || n != d.num {
		return fmt.Errorf("node %v, %v: want %v", n, err, d.num)
	}
	return nil
}

// expected is the table by other means than the program's: extent by extent, joined.
func expected(v Volume) (string, error) {
	lv := v.VG.LV(v.Name)
	out := ""
	for _, s := range lv.Segments {
		pv := v.VG.PVs[s.Areas[0].PV]
		n, ok := lunNumbers[v.PVs[s.Areas[0].PV]]
		if !ok {
			return "", fmt.Errorf("unknown LUN")
		}
		if out != "" {
			out += "\n"
		}
		out += fmt.Sprintf("%d %d linear %d:%d %d", s.StartExtent*8192, s.ExtentCount*8192, n.Major, n.Minor, (pv.PEStart+s.Areas[0].StartPE*extent)/512)
	}
	return out, nil
}
