package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// samples are the times of one measurement.
type samples []time.Duration

// sample times n runs of f.
func sample(n int, f func() error) (samples, error) {
	t := make(samples, 0, n)
	for range n {
		start := time.Now()
		if err := f(); err != nil {
			return t, err
		}
		t = append(t, time.Since(start))
	}
	return t, nil
}

// at is a quantile: 0.5 is the median.
func (s samples) at(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func (s samples) median() time.Duration { return s.at(0.5) }

// benchReport collects the lines of the table.
type benchReport struct {
	rows []benchRow
	// Waiting for the peers' times: calls to the SPM's host, to another one, and whole commands.
	direct, passedOn, commanded samples
}

type benchRow struct {
	what, value, p99, n, peer, ratio, goal string
	met                                    string
}

func verdict(ok bool) string {
	if ok {
		return "yes"
	}
	return "NO"
}

// times is a line with a bound on the median.
func (r *benchReport) times(what string, t samples, goal time.Duration) {
	if len(t) == 0 {
		return
	}
	r.rows = append(r.rows, benchRow{what: what, value: ms(t.median()), p99: ms(t.at(0.99)), n: fmt.Sprint(len(t)),
		goal: "<= " + ms(goal), met: verdict(t.median() <= goal)})
}

// bounded is a line with bounds on the median and on the 99th percentile.
func (r *benchReport) bounded(what string, t samples, goal, goal99 time.Duration) {
	if len(t) == 0 {
		return
	}
	r.rows = append(r.rows, benchRow{what: what, value: ms(t.median()), p99: ms(t.at(0.99)), n: fmt.Sprint(len(t)),
		goal: "<= " + ms(goal) + ", p99 " + ms(goal99), met: verdict(t.median() <= goal && t.at(0.99) <= goal99)})
}

// rate is a line with a bound from below, per second.
func (r *benchReport) rate(what string, perSecond, goal float64) {
	r.rows = append(r.rows, benchRow{what: what, value: fmt.Sprintf("%.0f /s", perSecond), goal: fmt.Sprintf(">= %.0f /s", goal),
		met: verdict(perSecond >= goal)})
}

// bytes is a line with a bound on memory.
func (r *benchReport) bytes(what string, n, goal int64) {
	r.rows = append(r.rows, benchRow{what: what, value: formatSize(n), goal: "<= " + formatSize(goal), met: verdict(n <= goal)})
}

// peers compares creation with lvcreate and qemu-img together, as call and as command.
func (r *benchReport) peers(lvcreate, qemu samples) {
	peer := lvcreate.median() + qemu.median()
	name := fmt.Sprintf("lvcreate %s + qemu-img %s", ms(lvcreate.median()), ms(qemu.median()))
	r.compare("create a thin volume, asked of the SPM's host", r.direct, name, peer, 1.0/20)
	r.compare("create a thin volume, asked of another host", r.passedOn, name, peer, 1.0/20)
	r.compare("create a thin volume, the whole command", r.commanded, name, peer, 1)
}

// compare is a line with a peer. goal bounds the ratio of the medians.
func (r *benchReport) compare(what string, ours samples, peer string, theirs time.Duration, goal float64) {
	row := benchRow{what: what, value: ms(ours.median()), p99: ms(ours.at(0.99)), n: fmt.Sprint(len(ours)), peer: "not measured"}
	if theirs > 0 {
		ratio := float64(ours.median()) / float64(theirs)
		row.peer = fmt.Sprintf("%s (%s)", ms(theirs), peer)
		row.ratio = fmt.Sprintf("1/%.1f", 1/ratio)
		row.goal = fmt.Sprintf("<= 1/%.0f", 1/goal)
		row.met = verdict(ratio <= goal)
	}
	r.rows = append(r.rows, row)
}

// io is a line that compares what goes to the device. goal bounds the ratio of the bytes, 0 for
// none; with a goal of 1 there may be no more calls either.
func (r *benchReport) io(what string, ours, theirs ioCount, goal float64) {
	row := benchRow{what: what, value: ours.String(), peer: "not measured"}
	if theirs.bytes() > 0 {
		ratio := ours.bytes() / theirs.bytes()
		row.peer, row.ratio = theirs.String()+" (sanlock)", fmt.Sprintf("1/%.1f", 1/ratio)
		if goal > 0 {
			row.goal = fmt.Sprintf("<= 1/%.0f", 1/goal)
			row.met = verdict(ratio <= goal && (goal < 1 || ours.ios() <= theirs.ios()))
		}
	}
	r.rows = append(r.rows, row)
}

// String is reads and writes with their bytes.
func (c ioCount) String() string {
	return fmt.Sprintf("%.3g r %s, %.3g w %s", c.reads, formatSize(int64(c.readBytes)), c.writes, formatSize(int64(c.writeBytes)))
}

// leftOut is a line for what could not be measured.
func (r *benchReport) leftOut(what string, why error) {
	r.rows = append(r.rows, benchRow{what: what, value: "left out", peer: why.Error()})
}

// ms is a time in milliseconds, with digits as they make sense.
func ms(d time.Duration) string {
	f := float64(d) / float64(time.Millisecond)
	if f >= 100 {
		return fmt.Sprintf("%.0f ms", f)
	}
	return fmt.Sprintf("%.2f ms", f)
}

// print writes the table.
func (r *benchReport) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEDIAN\tP99\tRUNS\tRATIO\tGOAL\tMET\tPEER (MEDIAN)")
	for _, b := range r.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.what, b.value, b.p99, b.n, b.ratio, b.goal, b.met, b.peer)
	}
	w.Flush()
}
