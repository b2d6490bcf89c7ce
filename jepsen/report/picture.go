package report

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// picture is a drawing in SVG. All numbers are printed already, in pixels.
type picture struct {
	Title  string
	Note   string
	W, H   string
	Lines  []line
	Rects  []rect
	Paths  []path
	Labels []label
	Hovers []rect // invisible, on top; they have titles only
}

type line struct{ X1, Y1, X2, Y2, Class string }

type rect struct{ X, Y, W, H, Class, Title string }

type path struct{ D, Class string }

type label struct{ X, Y, Class, Text string }

// px prints a coordinate. A tenth of a pixel is enough, and short.
func px(v float64) string {
	s := fmt.Sprintf("%.1f", v)
	return strings.TrimSuffix(s, ".0")
}

// axis maps times to pixels.
type axis struct {
	left, width float64
	end         time.Duration
}

func (a axis) x(t time.Duration) float64 {
	t = min(max(t, 0), a.end)
	return a.left + a.width*float64(t)/float64(a.end)
}

// bins is how many columns of at least n pixels fit.
func (a axis) bins(pixels float64) int { return max(1, int(a.width/pixels)) }

// bin is the column of a time.
func (a axis) bin(t time.Duration, n int) int {
	return min(n-1, max(0, int(float64(n)*float64(t)/float64(a.end))))
}

// at is the time at which a column begins.
func (a axis) at(bin, n int) time.Duration {
	return time.Duration(float64(a.end) * float64(bin) / float64(n))
}

// steps are the distances between ticks that people can read.
var steps = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute,
	2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour}

// ticks draws the time axis: about ten lines from top to bottom with their times.
func (p *picture) ticks(a axis, top, bottom float64) {
	step := steps[len(steps)-1]
	for _, s := range steps {
		if a.end/s <= 12 {
			step = s
			break
		}
	}
	for t := time.Duration(0); t <= a.end; t += step {
		x := a.x(t)
		p.Lines = append(p.Lines, line{px(x), px(top), px(x), px(bottom), "grid"})
		p.Labels = append(p.Labels, label{px(x), px(bottom + 13), "tick", clock(t)})
	}
}

// clock prints a time of the run as m:ss.
func clock(t time.Duration) string {
	s := int(t / time.Second)
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// exactly prints a time of the run with its milliseconds.
func exactly(t time.Duration) string {
	return fmt.Sprintf("%s.%03d", clock(t), t%time.Second/time.Millisecond)
}

// logScale maps durations to pixels, in decades.
type logScale struct {
	top, bottom float64
	least, most time.Duration
}

func (s logScale) y(d time.Duration) float64 {
	d = min(max(d, s.least), s.most)
	share := math.Log(float64(d)/float64(s.least)) / math.Log(float64(s.most)/float64(s.least))
	return s.bottom - share*(s.bottom-s.top)
}

// decades draws one line for each power of ten.
func (p *picture) decades(s logScale, left, right float64) {
	for d := s.least; d <= s.most; d *= 10 {
		y := s.y(d)
		p.Lines = append(p.Lines, line{px(left), px(y), px(right), px(y), "grid"})
		p.Labels = append(p.Labels, label{px(left - 6), px(y + 3.5), "side", d.String()})
	}
}
