package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Sizes of a plot of latencies, in pixels.
const (
	plotWidth  = 650.0
	plotHeight = 190.0
	plotDots   = 600 // more are thinned out
	plotBins   = 100
)

// latencies draws one plot for each kind of operation that succeeded at least a few times.
func latencies(r check.Record) []picture {
	byKind := map[string][]history.Op{}
	var kinds []string
	for _, o := range r.Ops {
		if o.Outcome != history.OK || o.Return < o.Call {
			continue
		}
		if byKind[o.Kind] == nil {
			kinds = append(kinds, o.Kind)
		}
		byKind[o.Kind] = append(byKind[o.Kind], o)
	}
	slices.Sort(kinds)
	var all []picture
	for _, k := range kinds {
		if len(byKind[k]) >= 3 {
			all = append(all, latency(k, byKind[k], r))
		}
	}
	return all
}

// latency draws when operations of one kind were asked and how long they took: dots, and p50 and p99 over time.
func latency(kind string, ops []history.Op, r check.Record) picture {
	a := axis{left: 56, width: plotWidth - 56 - 18, end: r.Run.Lasted}
	s := logScale{top: 8, bottom: plotHeight - 22, least: 100 * time.Microsecond, most: 100 * time.Second}
	took := times(ops)
	p := picture{Title: kind, W: px(plotWidth), H: px(plotHeight),
		Note: fmt.Sprintf("%d ok: p50 %s, p99 %s, max %s", len(ops), short(at(took, 50)), short(at(took, 99)), short(at(took, 100)))}
	for _, f := range r.Faults {
		end := f.End
		if end < f.Begin {
			end = a.end
		}
		x := a.x(f.Begin)
		p.Rects = append(p.Rects, rect{px(x), px(s.top), px(max(1, a.x(end)-x)), px(s.bottom - s.top), "shade", ""})
	}
	p.decades(s, a.left, a.left+a.width)
	p.ticks(a, s.top, s.bottom)
	p.Paths = append(p.Paths, path{dots(ops, a, s), "dots"})
	p.quantiles(ops, a, s)
	return p
}

// times are the sorted latencies.
func times(ops []history.Op) []time.Duration {
	took := make([]time.Duration, len(ops))
	for i, o := range ops {
		took[i] = o.Return - o.Call
	}
	slices.Sort(took)
	return took
}

// at is a quantile of a sorted list, by nearest rank.
func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

// dots draws the operations. With too many the slowest of each few is taken: those are of interest.
func dots(ops []history.Op, a axis, s logScale) string {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(x, y history.Op) int { return int(x.Call - y.Call) })
	few := max(1, (len(ops)+plotDots-1)/plotDots)
	var b strings.Builder
	for i := 0; i < len(ops); i += few {
		o := slices.MaxFunc(ops[i:min(i+few, len(ops))], func(x, y history.Op) int { return int((x.Return - x.Call) - (y.Return - y.Call)) })
		fmt.Fprintf(&b, "M%s %sh0", px(a.x(o.Call)), px(s.y(o.Return-o.Call)))
	}
	return b.String()
}

// quantiles draws p50 and p99 of each column.
func (p *picture) quantiles(ops []history.Op, a axis, s logScale) {
	cols := make([][]history.Op, plotBins)
	for _, o := range ops {
		i := a.bin(o.Call, plotBins)
		cols[i] = append(cols[i], o)
	}
	var p50, p99 strings.Builder
	width := a.width / plotBins
	for i, c := range cols {
		if len(c) == 0 {
			continue
		}
		took, x := times(c), a.left+(float64(i)+0.5)*width
		verb := "L"
		if p50.Len() == 0 {
			verb = "M"
		}
		fmt.Fprintf(&p50, "%s%s %s", verb, px(x), px(s.y(at(took, 50))))
		fmt.Fprintf(&p99, "%s%s %s", verb, px(x), px(s.y(at(took, 99))))
		p.Hovers = append(p.Hovers, rect{px(x - width/2), px(s.top), px(width), px(s.bottom - s.top), "",
			fmt.Sprintf("%s to %s: %d\np50 %s, p99 %s, max %s", clock(a.at(i, plotBins)), clock(a.at(i+1, plotBins)), len(c), short(at(took, 50)), short(at(took, 99)), short(at(took, 100)))})
	}
	p.Paths = append(p.Paths, path{p50.String(), "p50"}, path{p99.String(), "p99"})
}
