package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Sizes of the timeline, in pixels.
const (
	timelineWidth = 1320.0
	gutter        = 118.0
	rowHeight     = 17.0
	barHeight     = 12.0
	groupGap      = 21.0
	densityHeight = 70.0
)

// drawing puts rows one below the other.
type drawing struct {
	picture
	axis axis
	y    float64
}

// timeline draws what happened when: faults, SPM, leader, leases and operations on one axis of time.
func timeline(r check.Record, leases []check.HostState) picture {
	d := &drawing{axis: axis{left: gutter, width: timelineWidth - gutter - 20, end: r.Run.Lasted}, y: 4}
	d.faults(r)
	s := look(r, d.axis)
	d.roles("SPM, by epoch", r.Run.Hosts, s.spm, "spm", "epoch")
	d.roles("Raft leader, by term", r.Run.Hosts, s.leader, "leader", "term")
	d.leases(r.Run.Hosts, leases)
	d.operations(r)
	d.ticks(d.axis, 0, d.y)
	d.Title, d.W, d.H = "Timeline", px(timelineWidth), px(d.y+20)
	return d.picture
}

// group begins a group of rows.
func (d *drawing) group(name string) {
	d.y += groupGap
	d.Labels = append(d.Labels, label{px(4), px(d.y - 6), "group", name})
}

// row begins a row.
func (d *drawing) row(name string) {
	d.Labels = append(d.Labels, label{px(gutter - 8), px(d.y + barHeight - 2), "side", name})
	d.Rects = append(d.Rects, rect{px(gutter), px(d.y), px(d.axis.width), px(barHeight), "row", ""})
	d.y += rowHeight
}

// bar draws a time in the row begun last; what is too short to be seen is widened.
func (d *drawing) bar(from, to time.Duration, class, title string) {
	x := d.axis.x(from)
	w := max(2, d.axis.x(to)-x)
	d.Rects = append(d.Rects, rect{px(x), px(d.y - rowHeight), px(w), px(barHeight), class, title})
}

// faults has a row for each kind.
func (d *drawing) faults(r check.Record) {
	d.group(fmt.Sprintf("Faults (%d)", len(r.Faults)))
	byKind := map[string][]history.Fault{}
	var kinds []string
	for _, f := range r.Faults {
		if byKind[f.Kind] == nil {
			kinds = append(kinds, f.Kind)
		}
		byKind[f.Kind] = append(byKind[f.Kind], f)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		d.row(k)
		for _, f := range byKind[k] {
			d.fault(f)
		}
	}
}

func (d *drawing) fault(f history.Fault) {
	end, class := f.End, "fault "+family(f.Kind)
	if end < f.Begin {
		end = d.axis.end
	}
	title := fmt.Sprintf("%s %s\n%s to %s (%s)", f.Kind, strings.Join(f.Targets, ", "), exactly(f.Begin), exactly(end), short(end-f.Begin))
	if f.Detail != "" {
		title += "\n" + f.Detail
	}
	if f.Error != "" {
		title, class = title+"\n"+f.Error, class+" missed"
	}
	d.bar(f.Begin, end, class, title)
	if x := d.axis.x(f.Begin); d.axis.x(end)-x > float64(7*len(strings.Join(f.Targets, " ")))+6 && len(f.Targets) > 0 {
		d.Labels = append(d.Labels, label{px(x + 4), px(d.y - rowHeight + barHeight - 2.5), "in", strings.Join(f.Targets, " ")})
	}
}

// family is the colour of a fault.
func family(kind string) string {
	name, _, _ := strings.Cut(kind, ".")
	switch name {
	case "kill", "host", "restart", "stop":
		return "f-process"
	case "net":
		return "f-net"
	case "path", "lun":
		return "f-path"
	case "disk", "data":
		return "f-disk"
	}
	return "f-role"
}

// stretch is a time in which something stayed as it was.
type stretch struct {
	from, to time.Duration
	what     string // host, or state
	number   uint64 // epoch or term
}

// roles has a row for each host.
func (d *drawing) roles(name string, hosts []string, all []stretch, class, unit string) {
	d.group(name)
	for _, h := range hosts {
		d.row(h)
		for _, s := range all {
			if s.what == h {
				d.bar(s.from, s.to, fmt.Sprintf("%s n%d", class, s.number%2), fmt.Sprintf("%s: %s %d\n%s to %s (%s)",
					h, unit, s.number, exactly(s.from), exactly(s.to), short(s.to-s.from)))
				d.number(s)
			}
		}
	}
}

// number writes a stretch's number into it where there is room.
func (d *drawing) number(s stretch) {
	text := fmt.Sprint(s.number)
	if x := d.axis.x(s.from); d.axis.x(s.to)-x > float64(7*len(text))+6 {
		d.Labels = append(d.Labels, label{px(x + 4), px(d.y - rowHeight + barHeight - 2.5), "in", text})
	}
}

// leases has a row for each host's record on the LUN.
func (d *drawing) leases(hosts []string, all []check.HostState) {
	d.group("Leases of the hosts")
	for _, h := range hosts {
		d.row(h)
		for _, l := range all {
			if l.Host == h {
				d.bar(l.From, l.To, "lease l-"+strings.ToLower(l.State), fmt.Sprintf("%s is %s, generation %d\n%s to %s (%s)", h, l.State, l.Generation,
					exactly(l.From), exactly(l.To), short(l.To-l.From)))
			}
		}
	}
}

// seen is what the samples say, as stretches.
type seen struct {
	spm, leader []stretch
}

// look goes through the samples, column by column: of the SPM the highest epoch counts, of the leader the highest term.
func look(r check.Record, a axis) seen {
	n := a.bins(1.5)
	spm, leader := make([]stretch, n), make([]stretch, n)
	for _, s := range r.Samples {
		i := a.bin(s.At, n)
		if s.SPM != "" && s.Epoch >= spm[i].number {
			spm[i] = stretch{what: s.SPM, number: s.Epoch}
		}
		if s.Leader != "" && s.Term >= leader[i].number {
			leader[i] = stretch{what: s.Leader, number: s.Term}
		}
	}
	return seen{spm: join(spm, a), leader: join(leader, a)}
}

// join makes stretches of columns that say the same. A few columns that say nothing, between two samples, do not end one.
func join(cols []stretch, a axis) []stretch {
	const patience = 6
	var out []stretch
	empty := 0
	for i, c := range cols {
		from, to := a.at(i, len(cols)), a.at(i+1, len(cols))
		last := len(out) - 1
		switch {
		case c.what == "":
			empty++
			continue
		case last >= 0 && out[last].what == c.what && out[last].number == c.number && empty <= patience:
			out[last].to = to
		default:
			if last >= 0 && empty <= patience {
				out[last].to = from
			}
			out = append(out, stretch{from, to, c.what, c.number})
		}
		empty = 0
	}
	return out
}
