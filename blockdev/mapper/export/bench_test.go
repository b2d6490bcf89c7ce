package export

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// benchSize is the region that both servers write to, in turns.
const benchSize = 512 * mib

var benchSeconds = regexp.MustCompile(`Run completed in ([0-9.]+) seconds`)

// BenchmarkExport_sequentialWrite writes 1 MiB at a time with `qemu-img bench` through qemu-nbd and through an export in a
// process of its own, in turns, to the same blocks of the same file; the figure that counts is the ratio.
func BenchmarkExport_sequentialWrite(b *testing.B) {
	testutil.NeedTool(b, "qemu-img", "qemu-nbd")
	file := written(b)
	sock := filepath.Join(shortDir(b), "q")
	theirs := qemuNBD(b, file, sock)
	e := mustStart(b, testSpec(b, file, benchSize, benchSize))
	for _, depth := range []int{1, 8} {
		b.Run(fmt.Sprintf("depth-%d", depth), func(b *testing.B) {
			var ratios, ours []float64
			for b.Loop() {
				var q, o float64
				if len(ratios)%2 == 0 { // nobody always comes second
					q, o = benchRun(b, theirs, depth), benchRun(b, e.uri, depth)
				} else {
					o, q = benchRun(b, e.uri, depth), benchRun(b, theirs, depth)
				}
				ratios, ours = append(ratios, q/o), append(ours, benchSize/mib/o)
			}
			b.ReportMetric(median(ratios), "of-qemu-nbd")
			b.ReportMetric(median(ours), "MiB/s")
			b.ReportMetric(float64(memoryKiB(b, e.PID, "VmHWM"))/1024, "peak-MiB")
		})
	}
}

// written is a file whose blocks are all allocated, so that nobody pays for that in the measurement.
func written(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "lun")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, mib)
	for range benchSize / mib {
		if _, err := f.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	return path
}

func qemuNBD(t testing.TB, file, sock string) (uri string) {
	t.Helper()
	cmd := testutil.Command(t, "qemu-nbd", "--persistent", "--shared=4", "--format=raw", "--cache=none", "--aio=native",
		"--export-name=vol", "--socket="+sock, file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testutil.Retry(t, 10*time.Second, func() error { _, err := os.Stat(sock); return err })
	return nbdURI("vol", sock)
}

// benchRun is one run, in seconds.
func benchRun(t testing.TB, uri string, depth int) float64 {
	t.Helper()
	out := testutil.Run(t, "qemu-img", "bench", "-f", "raw", "-w", "-t", "none", "-s", "1M", "-d", strconv.Itoa(depth),
		"-c", strconv.Itoa(benchSize/mib), uri)
	m := benchSeconds.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("qemu-img bench: %s", out)
	}
	s, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
