package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// column counts the operations that were asked in a short time.
type column struct {
	n     map[history.Outcome]int
	codes map[string]int
}

// operations draws how many were asked and what became of them, and a mark wherever one failed or is unknown.
func (d *drawing) operations(r check.Record) {
	d.group(fmt.Sprintf("Operations (%d)", len(r.Ops)))
	n := d.axis.bins(4)
	cols, high := columns(r.Ops, d.axis, n)
	bottom := d.y + densityHeight
	width := d.axis.width / float64(n)
	areas := map[history.Outcome]*strings.Builder{history.OK: {}, history.Failed: {}, history.Unknown: {}}
	for i, c := range cols {
		x, y := d.axis.left+float64(i)*width, bottom
		for _, o := range []history.Outcome{history.OK, history.Failed, history.Unknown} {
			h := densityHeight * float64(c.n[o]) / float64(high)
			if h == 0 {
				continue
			}
			fmt.Fprintf(areas[o], "M%s %sv-%sh%sv%sz", px(x), px(y), px(h), px(width-0.7), px(h))
			y -= h
		}
		if text := c.tell(d.axis.at(i, n), d.axis.at(i+1, n)); text != "" {
			d.Hovers = append(d.Hovers, rect{px(x), px(d.y), px(width), px(densityHeight + 2*rowHeight), "", text})
		}
	}
	for _, o := range []history.Outcome{history.OK, history.Failed, history.Unknown} {
		d.Paths = append(d.Paths, path{areas[o].String(), "ops o-" + string(o)})
	}
	seconds := (d.axis.end / time.Duration(n)).Seconds()
	d.Labels = append(d.Labels, label{px(gutter - 8), px(d.y + 10), "side", fmt.Sprintf("%.0f/s", float64(high)/seconds)})
	d.y = bottom + 5
	d.marks(cols, history.Failed)
	d.marks(cols, history.Unknown)
}

// marks has a row with a stroke in each column in which an operation ended so.
func (d *drawing) marks(cols []column, o history.Outcome) {
	d.row(string(o))
	width := d.axis.width / float64(len(cols))
	var b strings.Builder
	for i, c := range cols {
		if c.n[o] > 0 {
			fmt.Fprintf(&b, "M%s %sv%s", px(d.axis.left+(float64(i)+0.5)*width), px(d.y-rowHeight+1), px(barHeight-2))
		}
	}
	d.Paths = append(d.Paths, path{b.String(), "mark m-" + string(o)})
}

// columns sorts operations by when they were asked. high is the largest number in a column.
func columns(ops []history.Op, a axis, n int) (cols []column, high int) {
	cols = make([]column, n)
	for _, o := range ops {
		c := &cols[a.bin(o.Call, n)]
		if c.n == nil {
			c.n, c.codes = map[history.Outcome]int{}, map[string]int{}
		}
		c.n[o.Outcome]++
		if o.Outcome != history.OK {
			c.codes[o.Kind+" "+o.Code]++
		}
	}
	high = 1
	for _, c := range cols {
		high = max(high, c.n[history.OK]+c.n[history.Failed]+c.n[history.Unknown])
	}
	return cols, high
}

// tell is what hovering over a column shows.
func (c column) tell(from, to time.Duration) string {
	if len(c.n) == 0 {
		return ""
	}
	lines := []string{fmt.Sprintf("%s to %s: %d ok, %d failed, %d unknown", exactly(from), exactly(to), c.n[history.OK], c.n[history.Failed], c.n[history.Unknown])}
	var why []string
	for k := range c.codes {
		why = append(why, k)
	}
	slices.SortFunc(why, func(a, b string) int {
		if c.codes[a] != c.codes[b] {
			return c.codes[b] - c.codes[a]
		}
		return strings.Compare(a, b)
	})
	for _, k := range why[:min(len(why), 4)] {
		lines = append(lines, fmt.Sprintf("%d %s", c.codes[k], k))
	}
	return strings.Join(lines, "\n")
}
