package leases

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// goldenFile is one entry of expected.json, made by an independent decoder.
type goldenFile struct {
	Leader  map[string]any `json:"leader"`
	Request map[string]any `json:"request"`
	blocks  map[int]map[string]any
}

// loadGolden reads the expectations; host blocks have their host's number in their key.
func loadGolden(t testing.TB) map[string]goldenFile {
	t.Helper()
	raw, err := os.ReadFile("testdata/golden/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var plain map[string]map[string]json.RawMessage
	if err := json.Unmarshal(raw, &plain); err != nil {
		t.Fatal(err)
	}
	files := map[string]goldenFile{}
	for name, sections := range plain {
		f := goldenFile{blocks: map[int]map[string]any{}}
		for key, body := range sections {
			host, isBlock := strings.CutPrefix(key, "dblock_host_")
			switch {
			case key == "leader":
				mustUnmarshal(t, body, &f.Leader)
			case key == "request":
				mustUnmarshal(t, body, &f.Request)
			case isBlock:
				h, err := strconv.Atoi(host)
				if err != nil {
					t.Fatal(err)
				}
				var m map[string]any
				mustUnmarshal(t, body, &m)
				f.blocks[h] = m
			}
		}
		if f.Leader != nil || f.Request != nil || len(f.blocks) > 0 {
			files[name] = f
		}
	}
	return files
}

func mustUnmarshal(t testing.TB, b []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		t.Fatal(err)
	}
}

// compare checks that every field that was expected and that we know is what we decoded.
func compare(t *testing.T, want map[string]any, got map[string]any) {
	t.Helper()
	for key, g := range got {
		w, ok := want[key]
		if !ok {
			t.Errorf("no expectation for %s", key)
			continue
		}
		ws := fmt.Sprint(w)
		if n, err := strconv.ParseUint(ws, 0, 64); err == nil {
			ws = fmt.Sprint(n)
		}
		if ws != fmt.Sprint(g) {
			t.Errorf("%s: got %v, want %v", key, g, w)
		}
	}
}

func leaderFields(l *Leader, sumOK bool) map[string]any {
	return map[string]any{"magic": l.Magic, "version": l.Version, "flags": l.Flags, "sector_size": l.SectorSize,
		"num_hosts": l.NumHosts, "max_hosts": l.MaxHosts, "owner_id": l.OwnerID, "owner_generation": l.OwnerGeneration,
		"lver": l.Lver, "space_name": l.Space, "resource_name": l.Resource, "timestamp": l.Timestamp, "unused1": l.Unused1,
		"checksum": l.Checksum, "unused2": l.Unused2, "io_timeout": l.IOTimeout, "write_id": l.WriteID,
		"write_generation": l.WriteGeneration, "write_timestamp": l.WriteTimestamp, "crc_ok": sumOK}
}

func blockFields(d *DBlock) map[string]any {
	return map[string]any{"mbal": d.Mbal, "bal": d.Bal, "inp": d.Inp, "inp2": d.Inp2, "inp3": d.Inp3, "lver": d.Lver,
		"checksum": d.Checksum, "flags": d.Flags, "crc_ok": d.Valid(), "mb_flags": d.ModeFlags, "mb_gen": d.ModeGeneration}
}

// TestGolden decodes what real sanlock wrote, and encodes it again to the same bytes.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, want := range loadGolden(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(filepath.Join("testdata/golden", name))
			if err != nil {
				t.Fatal(err)
			}
			size := 512
			if strings.Contains(name, "4096") {
				size = 4096
			}
			if want.Leader != nil {
				checkGoldenLeader(t, b, want.Leader)
			}
			if want.Request != nil {
				checkGoldenRequest(t, b, size, want.Request)
			}
			for h, fields := range want.blocks {
				at := (h + 1) * size
				if len(b) <= size {
					at = 0
				}
				checkGoldenBlock(t, b[at:at+min(size, len(b)-at)], fields)
			}
		})
	}
}

func checkGoldenLeader(t *testing.T, b []byte, want map[string]any) {
	t.Helper()
	var l Leader
	if err := l.Decode(b); err != nil {
		t.Fatal(err)
	}
	compare(t, want, leaderFields(&l, checksum(b[:leaderSumSize]) == l.Checksum))
	out := make([]byte, leaderSize)
	l.Encode(out)
	if !bytes.Equal(out, b[:leaderSize]) {
		t.Errorf("encoded again:\n%x\nwas:\n%x", out, b[:leaderSize])
	}
}

func checkGoldenRequest(t *testing.T, b []byte, size int, want map[string]any) {
	t.Helper()
	if len(b) > size {
		b = b[size:]
	}
	var r Request
	if err := r.Decode(b); err != nil {
		t.Fatal(err)
	}
	compare(t, want, map[string]any{"magic": r.Magic, "version": r.Version, "lver": r.Lver, "force_mode": uint32(r.ForceMode)})
	out := make([]byte, requestSize)
	r.Encode(out)
	if !bytes.Equal(out, b[:requestSize]) {
		t.Errorf("encoded again %x, was %x", out, b[:requestSize])
	}
}

func checkGoldenBlock(t *testing.T, b []byte, want map[string]any) {
	t.Helper()
	var d DBlock
	if err := d.Decode(b); err != nil {
		t.Fatal(err)
	}
	compare(t, want, blockFields(&d))
	out := make([]byte, len(b))
	d.Encode(out)
	junk := fmt.Sprint(want["padding_has_junk"]) == "true"
	if !bytes.Equal(out[:dblockSize], b[:dblockSize]) || !junk && !bytes.Equal(out, b) {
		t.Errorf("encoded again:\n%x\nwas:\n%x", out[:hostBlockSize], b[:hostBlockSize])
	}
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]uint32{"123456789": 0xe8c7bb34, string(make([]byte, 48)): 0xcb5ad842, string(make([]byte, 168)): 0x7e11fbd1} {
		if got := checksum([]byte(in)); got != want {
			t.Errorf("%q: %#x, want %#x", in, got, want)
		}
	}
}

func TestBitmap(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/golden/delta-512-host5-event+bitmap3.bin")
	if err != nil {
		t.Fatal(err)
	}
	m := Bitmap(b[bitmapOffset : bitmapOffset+bitmapSize])
	for h := 1; h <= 2000; h++ {
		if m.Has(h) != (h == 3) {
			t.Errorf("host %d: %v", h, m.Has(h))
		}
	}
	m.Clear(3)
	m.Set(2000)
	if m.Has(3) || !m.Has(2000) {
		t.Error("set or clear failed")
	}
}
