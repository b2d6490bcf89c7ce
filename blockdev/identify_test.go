package blockdev_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func kinds(t *testing.T, d blockdev.Device) []string {
	t.Helper()
	sigs, err := blockdev.Identify(testutil.Deadline(t), d)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, s := range sigs {
		list = append(list, s.Kind)
	}
	return list
}

// TestIdentify_realTools lets the formats' own programs make them.
func TestIdentify_realTools(t *testing.T) {
	t.Parallel()
	const uuid = "11223344-5566-7788-99aa-bbccddeeff00"
	for _, c := range []struct {
		kind, label, uuid string
		args              []string
	}{
		{"ext2", "lab", uuid, []string{"mkfs.ext2", "-q", "-L", "lab", "-U", uuid}},
		{"ext3", "lab", uuid, []string{"mkfs.ext3", "-q", "-L", "lab", "-U", uuid}},
		{"ext4", "lab", uuid, []string{"mkfs.ext4", "-q", "-L", "lab", "-U", uuid}},
		{"swap", "lab", uuid, []string{"mkswap", "-L", "lab", "-U", uuid}},
		{"xfs", "lab", uuid, []string{"mkfs.xfs", "-q", "-L", "lab", "-m", "uuid=" + uuid}},
		{"btrfs", "lab", uuid, []string{"mkfs.btrfs", "-q", "-L", "lab", "-U", uuid}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			if c.kind == "xfs" || c.kind == "btrfs" { // not among the programs that CI has
				if _, err := os.Stat("/usr/sbin/" + c.args[0]); err != nil {
					t.Skip("needs the program " + c.args[0])
				}
			}
			testutil.NeedTool(t, c.args[0])
			file := testutil.SparseFile(t, "lun", 320<<20)
			testutil.Run(t, append(c.args, file)...)
			sigs, err := blockdev.Identify(testutil.Deadline(t), open(t, file, blockdev.Options{ReadOnly: true}))
			if err != nil || len(sigs) != 1 || sigs[0].Kind != c.kind || sigs[0].Label != c.label || sigs[0].UUID != c.uuid {
				t.Errorf("found %v, %v", sigs, err)
			}
		})
	}
}

func TestIdentify_lvm2(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "pvcreate", "losetup")
	loop := testutil.LoopDevice(t, testutil.SparseFile(t, "lun", 64<<20), 512)
	const id = "abcdef-0123-4567-89ab-cdef-0123-456789"
	testutil.Run(t, "pvcreate", "--devicesfile", "", "--norestorefile", "--uuid", id, "--config", `devices{filter=["a|^`+loop+`$|","r|.*|"]}`, loop)
	sigs, err := blockdev.Identify(testutil.Deadline(t), open(t, loop, blockdev.Options{ReadOnly: true}))
	if err != nil || len(sigs) != 1 || sigs[0].Kind != "lvm2" || sigs[0].UUID != id || sigs[0].Offset != 512 {
		t.Errorf("found %v, %v", sigs, err)
	}
}

// TestIdentify_marks sets the marks of formats by hand, for both sector sizes.
func TestIdentify_marks(t *testing.T) {
	t.Parallel()
	const size = 16<<20 + 8192
	mbr := make([]byte, 66)
	mbr[4], mbr[12], mbr[64], mbr[65] = 0x83, 1, 0x55, 0xaa
	for _, c := range []struct {
		kind string
		off  int64
		mark string
	}{
		{"gpt", 512, "EFI PART"}, {"gpt", 4096, "EFI PART"}, {"gpt", size - 512, "EFI PART"},
		{"mbr", 446, string(mbr)},
		{"xfs", 0, "XFSB"}, {"btrfs", 0x10040, "_BHRfS_M"}, {"luks", 0, "LUKS\xba\xbe"},
		{"qcow2", 0, "QFI\xfb"}, {"vmfs", 2 << 20, "\x5e\xf1\xab\x2f"}, {"vmfs_volume", 1 << 20, "\x0d\xd0\x01\xc0"},
		{"zfs", 128 << 10, "\x0c\xb1\xba\x00"}, {"zfs", 16<<20 - 128<<10 + 1024, "\x00\x00\x00\x00\x00\xba\xb1\x0c"[4:]},
		{"md", 4096, "\xfc\x4e\x2b\xa9\x01\x00\x00\x00"}, {"md", 16<<20 - 65536, "\xfc\x4e\x2b\xa9"},
		{"ntfs", 3, "NTFS    "}, {"iso9660", 32769, "CD001"}, {"swap", 65536 - 10, "SWAPSPACE2"},
		{"sanlock_lockspace", 0, "\x10\x20\x21\x12"}, {"ddf_raid", size - 512, "\xde\x11\xde\x11"},
	} {
		for _, ss := range []int{512, 4096} {
			m := blockdev.NewMem(size, ss)
			m.SetBytes(c.off, []byte(c.mark))
			if got := kinds(t, m); !slices.Equal(got, []string{c.kind}) {
				t.Errorf("%s at %d, sectors of %d: found %v", c.kind, c.off, ss, got)
			}
		}
	}
}

func TestIdentify_several(t *testing.T) {
	t.Parallel()
	m := blockdev.NewMem(16<<20, 512)
	m.SetBytes(16<<20-512, []byte("EFI PART"))
	m.SetBytes(512, []byte("LABELONE"))
	m.SetBytes(512+24, []byte("LVM2 001"))
	if got := kinds(t, m); !slices.Equal(got, []string{"lvm2", "gpt"}) {
		t.Errorf("found %v", got)
	}
}

func TestIdentify_nothing(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{512, 4096, 64 << 10, 1 << 20, 3 << 20, 1 << 40} {
		if got := kinds(t, blockdev.NewMem(size, 512)); got != nil {
			t.Errorf("%d bytes: found %v", size, got)
		}
	}
	d := faulty.New(blockdev.NewMem(1<<20, 512))
	d.Inject(faulty.Fault{Err: faulty.EIO})
	if _, err := blockdev.Identify(testutil.Deadline(t), d); !errors.Is(err, faulty.EIO) {
		t.Errorf("unreadable: %v", err)
	}
}

func TestSignature_String(t *testing.T) {
	t.Parallel()
	s := blockdev.Signature{Kind: "ext4", Label: "data", UUID: "u", Offset: 1080}.String()
	if !strings.Contains(s, "ext4") || !strings.Contains(s, `"data"`) || !strings.Contains(s, "1080") {
		t.Error(s)
	}
}

// FuzzIdentify: no contents make Identify panic.
func FuzzIdentify(f *testing.F) {
	f.Add([]byte("LABELONE"), int64(512), int64(1<<20))
	f.Add([]byte("EFI PART"), int64(512), int64(1024))
	f.Add([]byte("LUKS\xba\xbe\x00\x02"), int64(0), int64(512))
	f.Add([]byte("\xfc\x4e\x2b\xa9\x01"), int64(4096), int64(8192))
	f.Fuzz(func(t *testing.T, data []byte, off, size int64) {
		size = max(1, min(size, 4<<20)/512) * 512
		m := blockdev.NewMem(size, 512)
		m.SetBytes(min(max(0, off), size-512), data[:min(len(data), 512)])
		for _, s := range must(blockdev.Identify(testutil.Deadline(t), m)) {
			if s.Offset < 0 || s.Offset >= size {
				t.Errorf("%v outside of %d bytes", s, size)
			}
		}
	})
}

func must(s []blockdev.Signature, err error) []blockdev.Signature {
	if err != nil {
		panic(err)
	}
	return s
}
