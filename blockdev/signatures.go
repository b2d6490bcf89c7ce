package blockdev

import "fmt"

// probe is a mark at a fixed place: magic at off (from the end when negative) of a structure that begins base bytes
// before it. fill adds label and UUID and may still say no.
type probe struct {
	kind  string
	off   int64
	magic string
	base  int64
	fill  func(v *view, start int64, s *Signature) bool
}

var probes = []probe{
	{"xfs", 0, "XFSB", 0, named(32, 108, 12)},
	{"ext2", 1024 + 56, "\x53\xef", 56, fillExt},
	{"btrfs", 0x10040, "_BHRfS_M", 0x40, named(0x20, 0x12b, 256)},
	{"f2fs", 1024, "\x10\x20\xf5\xf2", 0, named(108, -1, 0)},
	{"gfs2", 65536, "\x01\x16\x19\x70", 0, nil},
	{"ocfs2", 2 * 1024, "OCFSV2", 0, nil},
	{"ocfs2", 4 * 1024, "OCFSV2", 0, nil},
	{"ocfs2", 8 * 1024, "OCFSV2", 0, nil},
	{"iso9660", 32769, "CD001", 1, named(-1, 40, 32)},
	{"fat", 54, "FAT1", 54, named(-1, 43, 11)},
	{"fat", 82, "FAT32", 82, named(-1, 71, 11)},
	{"ntfs", 3, "NTFS    ", 3, nil},
	{"exfat", 3, "EXFAT   ", 3, nil},
	{"bitlocker", 3, "-FVE-FS-", 3, nil},
	{"vmfs_volume", 1 << 20, "\x0d\xd0\x01\xc0", 0, nil},
	{"vmfs", 2 << 20, "\x5e\xf1\xab\x2f", 0, named(-1, 29, 128)},
	{"luks", 0, "LUKS\xba\xbe", 0, fillLUKS},
	{"luks", 0x4000, "SKUL\xba\xbe", 0, fillLUKS},
	{"bcache", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", 24, named(40, -1, 0)},
	{"stratis", 512 + 4, "!Stra0tis\x86\xff\x02^\x41rh", 4, nil},
	{"bluestore", 0, "bluestore block device\n", 0, nil},
	{"sanlock_lockspace", 0, "\x10\x20\x21\x12", 0, named(-1, 56, 48)},
	{"sanlock_resource", 0, "\x10\x20\x15\x06", 0, named(-1, 104, 48)},
	{"drbd", -4096 + 60, "\x83\x74\x02\x6b", 60, nil},
	{"drbd", -4096 + 60, "\x83\x74\x02\x6d", 60, nil},
	{"isw_raid", -1024, "Intel Raid ISM Cfg Sig. ", 0, nil},
	{"ddf_raid", -512, "\xde\x11\xde\x11", 0, nil},
	{"qcow2", 0, "QFI\xfb", 0, nil},
	{"qed", 0, "QED\x00", 0, nil},
	{"vmdk", 0, "KDMV", 0, nil},
	{"vhdx", 0, "vhdxfile", 0, nil},
	{"vhd", 0, "conectix", 0, nil},
	{"vdi", 64, "\x7f\x10\xda\xbe", 64, nil},
}

// searches are formats whose marks may be in several places, or need more than a comparison.
var searches = []func(v *view) []Signature{findLVM2, findGPT, findMBR, findSwap, findMD, findZFS}

// named makes a fill function for a 16-byte UUID and a text at fixed places of the structure; -1 for none.
func named(uuid, label int64, labelLen int) func(*view, int64, *Signature) bool {
	return func(v *view, start int64, s *Signature) bool {
		if uuid >= 0 {
			s.UUID = v.uuid(start + uuid)
		}
		if label >= 0 {
			s.Label = v.text(start+label, labelLen)
		}
		return true
	}
}

// fillExt tells ext2, ext3 and ext4 apart by their features, as two bytes of magic alone prove little.
func fillExt(v *view, start int64, s *Signature) bool {
	const (
		compatJournal  = 0x4
		incompatJdev   = 0x8
		incompatExt4   = 0x40 | 0x80 | 0x200 // extents, 64bit, flex_bg
		roCompatExt4   = 0x8 | 0x10 | 0x20 | 0x40 | 0x400
		maxLogBlock    = 6
		logBlockOffset = 24
	)
	compat, incompat, ro := v.le32(start+92), v.le32(start+96), v.le32(start+100)
	switch {
	case v.le32(start+logBlockOffset) > maxLogBlock || v.le32(start) == 0:
		return false // no block size or no inodes: not a superblock
	case incompat&incompatJdev != 0:
		s.Kind = "jbd"
	case incompat&incompatExt4 != 0 || ro&roCompatExt4 != 0:
		s.Kind = "ext4"
	case compat&compatJournal != 0:
		s.Kind = "ext3"
	}
	s.UUID, s.Label = v.uuid(start+104), v.text(start+120, 16)
	return true
}

// fillLUKS reads the text UUID that versions 1 and 2 have in one place; only 2 has a label.
func fillLUKS(v *view, start int64, s *Signature) bool {
	s.UUID = v.text(start+168, 40)
	if v.be32(start+6)>>16 == 2 {
		s.Label = v.text(start+24, 48)
	}
	return true
}

// findLVM2 looks for a physical volume's label in the first four 512-byte sectors.
func findLVM2(v *view) []Signature {
	for off := int64(0); off < 4*512; off += 512 {
		if string(v.at(off, 8)) != "LABELONE" || string(v.at(off+24, 8)) != "LVM2 001" {
			continue
		}
		u := v.pad(off+int64(min(v.le32(off+20), 480)), 32)
		id := fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", u[:6], u[6:10], u[10:14], u[14:18], u[18:22], u[22:26], u[26:32])
		return []Signature{{Kind: "lvm2", UUID: id, Offset: off}}
	}
	return nil
}

// findGPT looks for a partition table header in the second and the last sector, for either sector size.
func findGPT(v *view) []Signature {
	var found []Signature
	for _, off := range []int64{512, 4096, v.size - 512, v.size - 4096} {
		if string(v.at(off, 8)) == "EFI PART" {
			found = append(found, Signature{Kind: "gpt", UUID: v.guid(off + 56), Offset: off})
		}
	}
	return found
}

// findMBR wants the boot signature and at least one entry, all of them plausible: many boot sectors of file systems
// have the signature too.
func findMBR(v *view) []Signature {
	if b := v.pad(510, 2); b[0] != 0x55 || b[1] != 0xaa {
		return nil
	}
	used := 0
	for off := int64(446); off < 510; off += 16 {
		e := v.pad(off, 16)
		if e[0]&0x7f != 0 {
			return nil
		}
		if e[4] != 0 && v.le32(off+12) != 0 {
			used++
		}
	}
	if used == 0 {
		return nil
	}
	return []Signature{{Kind: "mbr", UUID: fmt.Sprintf("%08x", v.le32(440)), Offset: 510}}
}

// findSwap looks at the end of the first page, for every page size there is.
func findSwap(v *view) []Signature {
	for page := int64(4096); page <= 65536; page *= 2 {
		if m := string(v.at(page-10, 10)); m == "SWAPSPACE2" || m == "SWAP-SPACE" {
			return []Signature{{Kind: "swap", UUID: v.uuid(1036), Label: v.text(1052, 16), Offset: page - 10}}
		}
	}
	return nil
}

// findMD looks where the four versions of Linux RAID put their superblock.
func findMD(v *view) []Signature {
	const magic = 0xa92b4efc
	var found []Signature
	for _, off := range []int64{0, 4096, (v.size/512 - 16) &^ 7 * 512} {
		if v.le32(off) == magic && v.le32(off+4) == 1 {
			found = append(found, Signature{Kind: "md", UUID: v.uuid(off + 16), Label: v.text(off+32, 32), Offset: off})
		}
	}
	if off := v.size&^0xffff - 0x10000; v.le32(off) == magic {
		found = append(found, Signature{Kind: "md", Offset: off})
	}
	return found
}

// findZFS looks for an uberblock in each of the four labels.
func findZFS(v *view) []Signature {
	const magic, label, ring = 0x00bab10c, 256 << 10, 128 << 10
	end := v.size / label * label
	for _, start := range []int64{0, label, end - 2*label, end - label} {
		for off := start + ring; off < start+label; off += 1024 {
			if v.le32(off) == magic || v.be32(off) == magic {
				return []Signature{{Kind: "zfs", Offset: off}}
			}
		}
	}
	return nil
}
