package manager

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

const (
	// tickGoal bounds what a tick of the leader costs in a pool of manyHosts.
	tickGoal             = 20 * time.Millisecond
	fewHosts, manyHosts  = 50, 200
	linearGoal, tickRuns = 1.5, 200 // a cost that grows with the square of the hosts has a ratio of 4
)

// tickTimes are the costs of ticks in a small and in a large pool.
type tickTimes struct{ few, many []time.Duration }

func quantile(l []time.Duration, q float64) time.Duration {
	l = slices.Sorted(slices.Values(l))
	return l[min(len(l)-1, int(q*float64(len(l))))]
}

// print writes the rows of the benchmark, as holdfast bench writes its own.
func (t tickTimes) print(out io.Writer) {
	few, many := quantile(t.few, 0.5), quantile(t.many, 0.5)
	ratio := float64(many) / float64(few) * fewHosts / manyHosts
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
	met := map[bool]string{true: "yes", false: "NO"}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEDIAN\tP99\tRUNS\tRATIO\tGOAL\tMET\tPEER (MEDIAN)")
	fmt.Fprintf(w, "one tick of the leader, %d hosts, 10 domains\t%s\t%s\t%d\t\t<= %s\t%s\t\n", manyHosts, ms(many), ms(quantile(t.many, 0.99)),
		len(t.many), ms(tickGoal), met[many <= tickGoal])
	fmt.Fprintf(w, "the same for each host, %d hosts against %d\t%s\t\t%d\t%.2f\t<= %.1f\t%s\t%s (ours)\n", manyHosts, fewHosts, (many / manyHosts).Round(100*time.Nanosecond),
		len(t.few), ratio, linearGoal, met[ratio <= linearGoal], (few / fewHosts).Round(100*time.Nanosecond))
	_ = w.Flush() // of a test
}

// BenchmarkTickGoals is a part of make bench: it measures both pools in turns and prints its rows. Once is enough: -benchtime 1x.
func BenchmarkTickGoals(b *testing.B) {
	small, few := tickPool(b, fewHosts)
	large, many := tickPool(b, manyHosts)
	var t tickTimes
	for b.Loop() {
		t = tickTimes{}
		for range tickRuns {
			t.few, t.many = append(t.few, timed(few)), append(t.many, timed(many))
		}
	}
	small.wg.Wait()
	large.wg.Wait()
	fmt.Println() // go test has begun a line
	t.print(os.Stdout)
}

func timed(f func()) time.Duration {
	begun := time.Now()
	f()
	return time.Since(begun)
}

func TestTickTimes_print(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, tc := range map[string]struct {
		few, many time.Duration
		want      string // the verdicts
	}{
		"fast and linear":      {2 * ms, 8 * ms, "yes yes"},
		"linear and slow":      {6 * ms, 24 * ms, "NO yes"},
		"fast and square":      {ms, 16 * ms, "yes NO"},
		"slow and square":      {2 * ms, 32 * ms, "NO NO"},
		"as slow as it may be": {5 * ms, 20 * ms, "yes yes"},
	} {
		var out strings.Builder
		tickTimes{[]time.Duration{tc.few, time.Hour, 0}, []time.Duration{tc.many, time.Hour, 0}}.print(&out)
		var got []string
		for _, w := range strings.Fields(out.String()) {
			if w == "yes" || w == "NO" {
				got = append(got, w)
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %s, want %s\n%s", name, got, tc.want, out.String())
		}
	}
}
