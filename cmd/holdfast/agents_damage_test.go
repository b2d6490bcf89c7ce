package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// places are where things lie on a LUN with one domain, in bytes.
type places struct {
	ids, sdm, slot, lease int64 // slot and lease are of one volume
	text, textLen         int64 // the current LVM metadata
}

const (
	labelAt  = 512
	headerAt = 4096 // of the first metadata area
)

// findPlaces opens a LUN that nobody uses.
func findPlaces(t *testing.T, lun, volume string) (p places) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dev, err := blockdev.Open(ctx, lun, blockdev.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	d, err := domain.Open(ctx, []blockdev.Device{dev}, domain.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v, ok := d.Volume(volume)
	if !ok {
		t.Fatalf("no volume %s on the LUN", volume)
	}
	must := func(_ blockdev.Device, off int64, err error) int64 {
		if err != nil {
			t.Fatal(err)
		}
		return off
	}
	p.ids, p.sdm, p.lease = must(d.Lockspace()), must(d.SPMResource()), must(d.VolumeResource(v.Slot))
	p.text, p.textLen = metadataText(t, lun)
	p.slot = findSlot(t, lun, volume, v.Image, v.Slot)
	return p
}

// metadataText finds the current text by the header of the first metadata area.
func metadataText(t *testing.T, lun string) (off, n int64) {
	t.Helper()
	h := readFile(t, lun, headerAt, 512)
	return headerAt + int64(binary.LittleEndian.Uint64(h[40:])), int64(binary.LittleEndian.Uint64(h[48:]))
}

// findSlot finds the metadata of a volume: the metadata volume begins at the first extent, behind the LVM metadata.
func findSlot(t *testing.T, lun, volume, image string, slot int) int64 {
	t.Helper()
	for pe := int64(1 << 20); pe < 512<<20; pe += 1 << 20 {
		off := pe + 1<<20 + int64(slot)*8192
		if b := readFile(t, lun, off, 512); bytes.Contains(b, []byte("IMAGE="+image)) && bytes.Contains(b, []byte("EOF")) {
			return off
		}
	}
	t.Fatalf("the metadata of volume %s was not found", volume)
	return 0
}

func readFile(t *testing.T, path string, off, n int64) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// flip changes some bytes of a file.
func flip(t *testing.T, path string, off, n int64) {
	t.Helper()
	b := readFile(t, path, off, n)
	for i := range b {
		b[i] ^= 0x5a
	}
	writeFile(t, path, off, b)
}

// lvmCRC is LVM's checksum: CRC-32 with a start value of its own and nothing inverted.
func lvmCRC(b []byte) uint32 { return ^crc32.Update(^uint32(0xf597a6cf), crc32.IEEETable, b) }

// editText replaces bytes of the LVM metadata by as many others, with all checksums of LVM right again.
func editText(t *testing.T, lun, from, to string) {
	t.Helper()
	off, n := metadataText(t, lun)
	text := readFile(t, lun, off, n)
	if len(from) != len(to) || !bytes.Contains(text, []byte(from)) {
		t.Fatalf("the metadata has no %q", from)
	}
	text = bytes.Replace(text, []byte(from), []byte(to), 1)
	h := readFile(t, lun, headerAt, 512)
	if lvmCRC(h[4:]) != binary.LittleEndian.Uint32(h) {
		t.Fatal("the checksum of the metadata area's header is not what this test takes it for")
	}
	binary.LittleEndian.PutUint32(h[56:], lvmCRC(text))
	binary.LittleEndian.PutUint32(h, lvmCRC(h[4:]))
	writeFile(t, lun, off, text)
	writeFile(t, lun, headerAt, h)
}

// copyTree copies files, holes included, over what is there.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "--archive", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copying %s: %v %s", filepath.Base(from), err, out)
	}
}
