package check

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// The layout of the tests' LUN.
const (
	atMDA      = 4096
	mdaLen     = 1 << 20
	atMDA2     = 64 << 20
	atMetadata = 2 << 20
	atIDs      = 4 << 20
	atInbox    = 6 << 20
	atOutbox   = 7 << 20
	atLeases   = 128 << 20
	atXleases  = 512 << 20
	atSDM      = atLeases + leaseSize
	atData     = 900 << 20
)

func testLayout() Layout {
	return Layout{VG: "vg", Areas: []Area{
		{Name: areaLabel, Len: atMDA}, {Name: areaMDA, Off: atMDA, Len: mdaLen}, {Name: areaMDA, Off: atMDA2, Len: mdaLen},
		{Name: "metadata", Off: atMetadata, Len: 1 << 20}, {Name: "ids", Off: atIDs, Len: 1 << 20},
		{Name: "inbox", Off: atInbox, Len: 1 << 20}, {Name: "outbox", Off: atOutbox, Len: 1 << 20},
		{Name: "leases", Off: atLeases, Len: 256 << 20}, {Name: "xleases", Off: atXleases, Len: 128 << 20},
	}}
}

// script makes the record of a LUN, one write a millisecond.
type script struct {
	now time.Duration
	all []history.Entry
}

// put writes bytes at once.
func (s *script) put(host string, off int64, data []byte) *history.Entry {
	return s.late(host, off, data, 0)
}

// late writes bytes that were on their way for some time.
func (s *script) late(host string, off int64, data []byte, on time.Duration) *history.Entry {
	s.now += time.Millisecond
	s.all = append(s.all, history.Entry{Seq: len(s.all) + 1, Host: host, Kind: history.Write, Off: off, Len: int64(len(data)), Data: data,
		Came: s.now - on, Landed: s.now + 100*time.Microsecond, Told: s.now + 200*time.Microsecond})
	return &s.all[len(s.all)-1]
}

// long writes more than the record keeps.
func (s *script) long(host string, off, n int64) *history.Entry {
	e := s.put(host, off, nil)
	e.Len = n
	return e
}

// sector makes a leader record.
func sector(magic uint32, owner, gen, version, stamp, writer uint64, name string) []byte {
	b := make([]byte, sectorSize)
	binary.LittleEndian.PutUint32(b, magic)
	for off, v := range map[int]uint64{32: owner, 40: gen, 48: version, 152: stamp, 176: writer} {
		binary.LittleEndian.PutUint64(b[off:], v)
	}
	copy(b[104:], name)
	binary.LittleEndian.PutUint32(b[168:], leaderSum(b[:168]))
	return b
}

// renew writes host id id's record.
func (s *script) renew(host string, id, gen uint64) *history.Entry {
	return s.put(host, atIDs+int64(id-1)*sectorSize, sector(magicHost, id, gen, 0, uint64(s.now), 0, host))
}

// win makes host id owner the SPM.
func (s *script) win(host string, id, gen, epoch uint64) {
	s.put(host, atSDM, sector(magicLease, id, gen, epoch, uint64(s.now)+1, id, "SDM"))
}

func (s *script) release(host string, id, gen, epoch uint64) {
	s.put(host, atSDM, sector(magicLease, id, gen, epoch, 0, id, "SDM"))
}

// work writes structural bytes.
func (s *script) work(host string) *history.Entry {
	return s.put(host, atMetadata+8192, []byte("VERSION=5"))
}

// born makes a domain and lets hosts a and b join.
func born() *script {
	s := &script{}
	s.long("a", atLeases, 64<<20)
	s.put("a", atMDA, make([]byte, sectorSize))
	s.renew("a", 1, 1)
	s.renew("b", 2, 1)
	return s
}

// record makes the folder of a run of a script.
func (s *script) record(t *testing.T, l Layout) Record {
	t.Helper()
	dir := t.TempDir()
	if err := writeJSON(dir, LayoutFile, l); err != nil {
		t.Fatal(err)
	}
	return Record{Folder: dir, Entries: s.all, Run: history.Run{Hosts: []string{"a", "b"}, Bounds: history.Bounds{IOTimeout: time.Second, Watchdog: 2 * time.Second}}}
}

// expect demands a pass, or a failure that says words.
func expect(t *testing.T, v history.Verdict, words string) {
	t.Helper()
	switch all := strings.Join(v.Faults, "\n"); {
	case words == "" && !v.OK:
		t.Errorf("%s must pass: %s\n%s", v.Checker, v.Summary, all)
	case words != "" && v.OK:
		t.Errorf("%s must see %q; it says %s", v.Checker, words, v.Summary)
	case words != "" && !strings.Contains(all, words):
		t.Errorf("%s must see %q; it found\n%s", v.Checker, words, all)
	}
}

func TestSingleWriter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(s *script)
		want string
	}{
		{"the role moves in order", func(s *script) {
			s.win("a", 1, 1, 1)
			s.work("a")
			s.release("a", 1, 1, 1)
			s.win("b", 2, 1, 2)
			s.work("b")
			s.win("a", 1, 1, 3) // b died
			s.work("a")
		}, ""},
		{"two writers in an epoch", func(s *script) {
			s.win("a", 1, 1, 1)
			s.work("a")
			s.work("b")
			s.work("a")
		}, "b never held the SPM lease"},
		{"a late write of an older epoch", func(s *script) {
			s.win("a", 1, 1, 1)
			s.work("a")
			s.win("b", 2, 1, 2)
			s.work("b")
			s.work("a")
		}, "a write of epoch 1 landed after one of epoch 2"},
		{"a late write of an older epoch by a host that holds the lease again", func(s *script) {
			s.win("a", 1, 1, 1)
			came := s.now
			s.win("b", 2, 1, 2)
			s.work("b")
			s.win("a", 1, 1, 3)
			s.work("a")
			s.late("a", atMetadata, []byte("old"), s.now-came)
		}, "a write of epoch 1 landed after one of epoch 3"},
		{"a write after the next epoch was won, before its first write", func(s *script) {
			s.win("a", 1, 1, 1)
			s.win("b", 2, 1, 2)
			s.work("a")
			s.work("b")
		}, "landed after epoch 2 was won by b"},
		{"a write after the lease was given back", func(s *script) {
			s.win("a", 1, 1, 1)
			s.work("a")
			s.release("a", 1, 1, 1)
			s.work("a")
		}, "landed after its lease was free"},
		{"two owners of an epoch", func(s *script) {
			s.win("a", 1, 1, 1)
			s.work("a")
			s.win("b", 2, 1, 1)
		}, "names another owner"},
		{"an owner that is nobody", func(s *script) {
			s.put("a", atSDM, sector(magicLease, 7, 1, 1, 5, 1, "SDM"))
			s.work("a")
		}, "names a host id that nobody holds"},
		{"another commits the winner", func(s *script) {
			s.put("b", atSDM, sector(magicLease, 1, 1, 1, 5, 2, "SDM"))
			s.work("a")
		}, ""},
		{"two makers", func(s *script) {
			s.work("b")
			s.win("a", 1, 1, 1)
		}, "two writers before the first epoch"},
		{"the metadata area of the group", func(s *script) {
			s.win("a", 1, 1, 1)
			s.long("b", atMDA+512, 8192)
		}, "b never held"},
		{"making a volume's lease is the SPM's, taking it is not", func(s *script) {
			s.win("a", 1, 1, 1)
			s.long("a", atLeases+101*leaseSize, 1<<20)
			s.put("b", atLeases+101*leaseSize, sector(magicLease, 2, 1, 1, 5, 2, "v"))
			s.put("b", atInbox+2*mailPage, make([]byte, mailPage))
			s.put("b", atInbox, make([]byte, mailPage)) // a ring
			s.put("b", atData, []byte("a guest's"))
		}, ""},
		{"wiping a volume's lease without the role", func(s *script) {
			s.win("a", 1, 1, 1)
			s.long("b", atLeases+101*leaseSize, 1<<20)
		}, "b never held"},
		{"a write that never landed counts for nothing", func(s *script) {
			s.win("a", 1, 1, 1)
			s.work("a")
			s.work("b").Landed = 0
		}, ""},
		{"nothing was written", func(s *script) { s.all = nil }, "no structural write"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := born()
			tt.do(s)
			expect(t, SingleWriter(s.record(t, testLayout())), tt.want)
		})
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	free := func(s *script, host string, id, gen uint64) {
		s.put(host, atIDs+int64(id-1)*sectorSize, sector(magicHost, id, gen, 0, 0, 0, "x"))
	}
	const vol = atLeases + 101*leaseSize
	tests := []struct {
		name string
		do   func(s *script)
		want string
	}{
		{"renewed, freed with proof, taken anew", func(s *script) { s.renew("b", 2, 1); free(s, "a", 2, 1); s.renew("b", 2, 2) }, ""},
		{"given back and taken by another host", func(s *script) { free(s, "b", 2, 1); s.renew("c", 2, 2) }, ""},
		{"two hosts with one id", func(s *script) { s.renew("c", 2, 1) }, "is b's and c's"},
		{"a renewal after the proof", func(s *script) { free(s, "a", 2, 1); s.renew("b", 2, 1) }, "the proof of its death was none"},
		{"a late renewal of an older generation", func(s *script) { s.renew("c", 2, 2); s.renew("b", 2, 1) }, "went back"},
		{"a record that names another", func(s *script) { s.put("a", atIDs, sector(magicHost, 2, 2, 0, 5, 0, "a")) }, "names 2"},
		{"a record that is none", func(s *script) { s.put("a", atIDs, make([]byte, sectorSize)) }, "cannot be read"},
		{"versions of a lease", func(s *script) {
			s.put("a", vol, sector(magicLease, 1, 1, 1, 5, 1, "v"))
			s.put("a", vol, sector(magicLease, 1, 1, 1, 0, 1, "v"))
			s.put("b", vol, sector(magicLease, 2, 1, 2, 5, 2, "v"))
			s.long("a", vol, leaseSize)
			s.put("a", vol, sector(magicLease, 1, 1, 1, 5, 1, "v"))
		}, ""},
		{"two owners of a version", func(s *script) {
			s.put("a", vol, sector(magicLease, 1, 1, 3, 5, 1, "v"))
			s.put("b", vol, sector(magicLease, 2, 1, 3, 5, 2, "v"))
		}, "version 3 of lease v has two owners"},
		{"the block of another", func(s *script) { s.put("a", vol+3*sectorSize, []byte{1, 2, 3}) }, "the block of host id 2 (b) was written by another"},
		{"its own block, and a dead sharer's wiped", func(s *script) {
			s.put("b", vol+3*sectorSize, []byte{1, 2, 3})
			s.put("a", vol+3*sectorSize, make([]byte, sectorSize))
		}, ""},
		{"no record at all", func(s *script) { s.all = nil }, "no host's record"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := born()
			tt.do(s)
			expect(t, Records(s.record(t, testLayout())), tt.want)
		})
	}
}

// text makes a state of the group of about n bytes.
func text(seqno, n int) []byte {
	b := fmt.Appendf(nil, "vg {\nid = \"x\"\nseqno = %d\n", seqno)
	for len(b) < n {
		b = append(b, "# filler\n"...)
	}
	return append(b, "}\n\x00"...)
}

// header makes the header of a metadata area that says a text is committed.
func header(txt []byte) []byte {
	b := make([]byte, sectorSize)
	copy(b[4:], mdaMagic)
	binary.LittleEndian.PutUint64(b[40:], 512)
	binary.LittleEndian.PutUint64(b[48:], uint64(len(txt)))
	binary.LittleEndian.PutUint32(b[56:], lvmSum(txt))
	binary.LittleEndian.PutUint32(b, lvmSum(b[4:]))
	return b
}

// commit writes a text and commits it in both areas.
func (s *script) commit(seqno int) {
	txt := text(seqno, 100)
	s.put("a", atMDA+512, txt)
	s.put("a", atMDA, header(txt))
	s.put("a", atMDA2, header(txt))
}

func TestCommits(t *testing.T) {
	t.Parallel()
	big := text(3, 9000)
	tests := []struct {
		name string
		do   func(s *script)
		want string
	}{
		{"one by one", func(s *script) { s.commit(1); s.commit(2); s.commit(3) }, ""},
		{"a gap", func(s *script) { s.commit(1); s.commit(2); s.commit(4) }, "seqno 4 follows 2 after 1 commits"},
		{"twice the same", func(s *script) {
			s.commit(1)
			s.commit(2)
			other := append(text(2, 200)[:150], 0)
			s.put("a", atMDA+512, other)
			s.put("a", atMDA, header(other))
		}, "seqno 2 follows 2"},
		{"a text of which only the ring knows the number", func(s *script) {
			s.commit(1)
			s.commit(2)
			s.long("a", atMDA+512, int64(len(big)))
			s.put("a", atMDA, header(big))
			s.commit(4)
		}, ""},
		{"a commit that nobody counted", func(s *script) {
			s.commit(1)
			s.put("a", atMDA, header(text(77, 7000)))
			s.commit(2)
		}, "seqno 2 follows 1 after 2 commits"},
		{"one area lags after a crash", func(s *script) {
			s.commit(1)
			two := text(2, 100)
			s.put("a", atMDA+512, two)
			s.put("a", atMDA, header(two))
			s.commit(3)
		}, ""},
		{"a header that lands late", func(s *script) { s.commit(1); s.commit(2); s.put("a", atMDA, header(text(1, 100))) }, "went back by 1"},
		{"a power loss takes back what was not flushed", func(s *script) {
			s.commit(1)
			s.put("a", atMDA, header(text(2, 50)))
			s.put("a", atMDA, header(text(1, 100))).Kind = lost
			s.commit(2)
		}, ""},
		{"a header that is none", func(s *script) { s.commit(1); s.commit(2); s.put("a", atMDA, []byte(strings.Repeat("x", 512))) }, "wrong magic"},
		{"nothing to compare", func(s *script) { s.commit(1) }, "two are needed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := born()
			tt.do(s)
			l := testLayout()
			l.Texts = []Text{{Size: int64(len(big)), Sum: lvmSum(big), Seqno: 3}}
			expect(t, Commits(s.record(t, l)), tt.want)
		})
	}
}

// Without a layout nothing is known, and that is no pass.
func TestWriters_noLayout(t *testing.T) {
	t.Parallel()
	r := Record{Folder: t.TempDir(), Entries: born().all}
	for _, v := range []history.Verdict{SingleWriter(r), Records(r), Commits(r)} {
		expect(t, v, LayoutFile)
	}
}

// The decoder reads what the real sanlock wrote.
func TestDecodeLeader_golden(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]leader{
		"delta-512-daemon-host3-gen1.bin":              {magic: magicHost, owner: 3, gen: 1},
		"paxos-512-acquired-host3-gen1-sectors0-4.bin": {magic: magicLease, owner: 3, gen: 1, version: 1},
		"paxos-512-released-host3-gen1-sectors0-4.bin": {magic: magicLease, owner: 3, gen: 1, version: 1},
		"paxos-512-cleared-leader+request.bin":         {magic: magicCleared},
		"paxos-512-shared-host3+host5-sectors0-6.bin":  {magic: magicLease, owner: 5, gen: 1, version: 3},
	} {
		b, err := os.ReadFile(filepath.Join("../../leases/testdata/golden", name))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := decodeLeader(b, want.magic)
		if !ok || got.owner != want.owner || got.gen != want.gen || got.version != want.version {
			t.Errorf("%s: %+v %v", name, got, ok)
		}
		if free := strings.Contains(name, "released") || strings.Contains(name, "cleared") || strings.Contains(name, "shared"); got.free() != free {
			t.Errorf("%s: free is %v", name, got.free())
		}
		b[50] ^= 1
		if _, ok := decodeLeader(b, want.magic); ok {
			t.Errorf("%s: a flipped bit went unseen", name)
		}
	}
}
