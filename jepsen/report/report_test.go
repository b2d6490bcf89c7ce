package report

import (
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// generate makes the folder of a run that never was, with all that a real one has.
func generate(t *testing.T, dir string, length time.Duration, hosts int, perSecond float64) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(4, 2))
	run := history.Run{Seed: 42, Version: "v0.4.0-dev", Began: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Lasted: length, Profile: "dev",
		Bounds: history.Bounds{IOTimeout: time.Second, Watchdog: 2 * time.Second}}
	for i := range hosts {
		run.Hosts = append(run.Hosts, fmt.Sprintf("h%d", i+1))
	}
	run.Verdicts = []history.Verdict{{Checker: "single writer", OK: true, Summary: "1,204 structural writes in 31 epochs by 5 hosts"},
		{Checker: "linearizable volumes", Summary: "1 of 220 partitions", Faults: []string{`v<17>: read "" after "x"`}}}
	faults := generateFaults(rng, run)
	folder := filepath.Join(dir, "run")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := history.SaveRun(folder, run); err != nil {
		t.Fatal(err)
	}
	put(t, folder, history.FaultsFile, faults)
	put(t, folder, history.OpsFile, generateOps(rng, run, faults, perSecond))
	put(t, folder, history.SamplesFile, generateSamples(rng, run, faults))
	put(t, folder, history.WritesFile, generateRenewals(run))
	if err := os.WriteFile(filepath.Join(folder, check.LayoutFile), []byte(`{"areas": [{"name": "ids", "off": 4096, "len": 1048576}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, h := range run.Hosts {
		if err := os.WriteFile(filepath.Join(folder, h+".log"), []byte("a line\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func put[T any](t *testing.T, folder, name string, all []T) {
	t.Helper()
	l, err := history.NewLog[T](folder, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		l.Add(v)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

var kinds = []string{"kill.agent", "kill.both", "stop.long", "net.halves", "net.oneway", "path.hang", "path.slow", "lun.gone", "disk.full", "clock.jump", "spm.move", "raft.transfer"}

func generateFaults(rng *rand.Rand, run history.Run) (all []history.Fault) {
	for at := 10 * time.Second; at < run.Lasted-20*time.Second; at += time.Duration(5+rng.IntN(15)) * time.Second {
		f := history.Fault{Kind: kinds[rng.IntN(len(kinds))], Begin: at, End: at + time.Duration(500+rng.IntN(12000))*time.Millisecond}
		if f.Targets = []string{run.Hosts[rng.IntN(len(run.Hosts))]}; f.Kind == "lun.gone" {
			f.Targets = nil
		}
		if rng.IntN(20) == 0 {
			f.Error = "the host <was> gone"
		}
		all = append(all, f)
	}
	return all
}

func generateOps(rng *rand.Rand, run history.Run, faults []history.Fault, perSecond float64) (all []history.Op) {
	ops := []string{history.VolumeCreate, history.VolumeDelete, history.VolumeList, history.VolumeShow, history.VolumeDescribe, history.LeaseAcquire, history.LeaseRelease, history.LeaseShow}
	next := 0
	for at := time.Duration(0); at < run.Lasted; at += time.Duration(rng.ExpFloat64() / perSecond * float64(time.Second)) {
		for next < len(faults) && faults[next].Begin < at {
			next++
		}
		hit := next > 0 && faults[next-1].End > at
		o := history.Op{Kind: ops[rng.IntN(len(ops))], Host: run.Hosts[rng.IntN(len(run.Hosts))], Call: at, Outcome: history.OK}
		o.Return = at + time.Duration(float64(4*time.Millisecond)*rng.ExpFloat64()+float64(time.Millisecond))
		switch n := rng.IntN(100); {
		case hit && n < 12:
			o.Outcome, o.Code = history.Failed, "no_spm"
		case hit && n < 18:
			o.Outcome, o.Return = history.Unknown, history.Forever
		case hit:
			o.Return += time.Duration(rng.IntN(3000)) * time.Millisecond
		}
		all = append(all, o)
	}
	return all
}

func generateSamples(rng *rand.Rand, run history.Run, faults []history.Fault) (all []history.Sample) {
	spm, leader, epoch, term, next := 0, 1, uint64(1), uint64(2), 0
	for at := time.Duration(0); at < run.Lasted; at += 500 * time.Millisecond {
		for next < len(faults) && faults[next].Begin < at {
			next++
			if rng.IntN(2) == 0 {
				spm, epoch = rng.IntN(len(run.Hosts)), epoch+1
			}
			if rng.IntN(3) == 0 {
				leader, term = rng.IntN(len(run.Hosts)), term+1
			}
		}
		for _, h := range run.Hosts {
			s := history.Sample{At: at, Host: h, Answered: true, SPM: run.Hosts[spm], Epoch: epoch, Leader: run.Hosts[leader], Term: term}
			all = append(all, s)
		}
	}
	return all
}

// generateRenewals has each host renew its record, but the first, which is silent for half a minute, and the last, which leaves.
func generateRenewals(run history.Run) (all []history.Entry) {
	for at := time.Second; at < run.Lasted; at += 5 * time.Second {
		for i, h := range run.Hosts {
			if i == 0 && at > 20*time.Second && at < 60*time.Second {
				continue
			}
			renewed := uint64(at / time.Second)
			if i == len(run.Hosts)-1 && at > run.Lasted/2 {
				renewed = 0
			}
			b := hostRecord(uint64(i+1), renewed)
			all = append(all, history.Entry{Seq: len(all) + 1, Host: h, Kind: history.Write, Off: 4096 + int64(i)*512, Len: 512, Data: b,
				Came: at, Landed: at, Told: at})
		}
	}
	return all
}

// hostRecord is a host's record in a lockspace, as far as it is looked at here.
func hostRecord(id, renewed uint64) []byte {
	b := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint32(b, 0x12212010)
	le.PutUint64(b[32:], id)
	le.PutUint64(b[40:], 1) // generation
	le.PutUint64(b[152:], renewed)
	le.PutUint32(b[168:], ^crc32.Update(1, crc32.MakeTable(crc32.Castagnoli), b[:168]))
	return b
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wellFormed reads the page as XML, which is stricter than any browser, and counts its elements.
func wellFormed(t *testing.T, text string) map[string]int {
	t.Helper()
	n := map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		if e, ok := tok.(xml.StartElement); ok {
			n[e.Name.Local]++
		}
	}
}

var external = regexp.MustCompile(`(?i)https?://|<script|<link|@import|url\(|src=`)

// The page of half an hour with five hosts is complete, stands alone, and is small enough to be mailed.
func TestWrite_halfAnHour(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if keep := os.Getenv("HOLDFAST_REPORT_DIR"); keep != "" {
		dir = keep // to be looked at
	}
	folder := generate(t, dir, 30*time.Minute, 5, 40)
	if err := Write(folder); err != nil {
		t.Fatal(err)
	}
	text := read(t, filepath.Join(folder, history.ReportFile))
	if len(text) > 3<<20 {
		t.Errorf("the page has %d bytes", len(text))
	}
	t.Logf("the page has %d KiB", len(text)>>10)
	n := wellFormed(t, text)
	if n["svg"] != 9 || n["title"] < 500 {
		t.Errorf("one timeline and eight plots are nine pictures: %v", n)
	}
	if bad := external.FindString(text); bad != "" {
		t.Errorf("the page refers to something outside: %s", bad)
	}
	for _, want := range []string{"1 of 2 failed", "✗ violated", "v&lt;17&gt;", "the host &lt;was&gt; gone", "seed", ">h5<", ">kill.agent<", "epoch 1", "term 2",
		"h1 is LIVE", "h1 is FAIL", "h1 is DEAD", "h5 is FREE", "no_spm", `href="h1.log"`, "volume.create", "p99", "the SPM&#39;s agent crashes"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "ZgotmplZ") || strings.Contains(text, `="-`) {
		t.Error("a number of the page is none")
	}
	if strings.Index(text, "✗ violated") > strings.Index(text, "✓ holds") {
		t.Error("what failed comes first")
	}
}

// A run that ended badly has a page that says what is missing.
func TestWrite_incomplete(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := Write(folder); err == nil {
		t.Error("a folder without a run has no page")
	}
	if err := history.SaveRun(folder, history.Run{Seed: 7, Hosts: []string{"h1"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, history.OpsFile), []byte(`{"kind":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(folder); err != nil {
		t.Fatal(err)
	}
	text := read(t, filepath.Join(folder, history.ReportFile))
	wellFormed(t, text)
	for _, want := range []string{"not judged", "Not all of this run could be read", history.FaultsFile, "record 0", "No operation succeeded"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	began := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for i, v := range [][]history.Verdict{{{Checker: "x", OK: true}}, {{Checker: "x"}}, nil} {
		folder := filepath.Join(dir, fmt.Sprintf("run%d", i))
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := history.SaveRun(folder, history.Run{Seed: uint64(100 + i), Began: began.Add(time.Duration(i) * time.Hour), Verdicts: v}); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(filepath.Join(dir, "run1")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "run0"), history.OpsFile, make([]history.Op, 321))
	for name, text := range map[string]string{"broken": "{", "other": ""} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, name, history.RunFile), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := Index(dir); err != nil {
		t.Fatal(err)
	}
	text := read(t, filepath.Join(dir, IndexFile))
	wellFormed(t, text)
	at := -1
	for _, want := range []string{"4 runs", "not judged", `href="run1/report.html"`, "passed", ">321<", "broken"} {
		i := strings.Index(text, want)
		if i < at {
			t.Errorf("%q is not there, or not after what is newer", want)
		}
		at = i
	}
	if strings.Contains(text, ">other<") {
		t.Error("a folder that is no run's is listed")
	}
}

// Stretches: what is seen becomes bars, a gap between two samples ends none, a long silence does.
func TestJoin(t *testing.T) {
	t.Parallel()
	a := axis{width: 100, end: 20 * time.Second}
	cols := make([]stretch, 20)
	for _, i := range []int{0, 2, 4} {
		cols[i] = stretch{what: "h1", number: 1}
	}
	cols[5] = stretch{what: "h2", number: 2}
	cols[18] = stretch{what: "h2", number: 2}
	got := join(cols, a)
	want := []stretch{{0, 5 * time.Second, "h1", 1}, {5 * time.Second, 6 * time.Second, "h2", 2}, {18 * time.Second, 19 * time.Second, "h2", 2}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
