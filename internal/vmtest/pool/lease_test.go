//go:build vmtest

package pool

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// lease is what a lease's record on the disk says; the layout is sanlock's.
type lease struct {
	owner, generation, version, timestamp uint64
}

func (l lease) free() bool { return l.timestamp == 0 }

// leaseOf reads the record past all caches.
func leaseOf(t *testing.T, r record) lease {
	t.Helper()
	f, err := os.OpenFile(r.Lease.Device, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if _, err := f.ReadAt(b, r.Lease.Offset); err != nil {
		t.Fatal(err)
	}
	const resourceMagic = 0x06152010
	if m := binary.LittleEndian.Uint32(b); m != resourceMagic {
		t.Fatalf("no lease at %d: magic %#x", r.Lease.Offset, m)
	}
	return lease{owner: binary.LittleEndian.Uint64(b[32:]), generation: binary.LittleEndian.Uint64(b[40:]),
		version: binary.LittleEndian.Uint64(b[48:]), timestamp: binary.LittleEndian.Uint64(b[152:])}
}

// takenByAnother lets another host take a free lease, and give it back: all that a host does on the disk to write a volume.
func (h *poolHost) takenByAnother(r record) {
	h.t.Helper()
	at := fmt.Sprintf("%s:%s:%s:%d", r.Lease.Lockspace, r.Lease.Name, r.Lease.Device, r.Lease.Offset)
	for _, action := range []string{"acquire", "release"} {
		if out, err := tryTool(holdfast, "sanlock", "direct", action, "-r", at, "-i", "2", "-g", "1", "-o", "2"); err != nil {
			h.t.Fatalf("%s by host 2: %v: %s", action, err, out)
		}
	}
}
