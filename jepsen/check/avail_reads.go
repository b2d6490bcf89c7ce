package check

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// recovery is how long an agent has to answer again once its host is well: the service manager waits 2 s, and it reads its log first.
const recovery = 10 * time.Second

// exitTime is how long an agent that is killed takes to be gone, on a machine with many others.
const exitTime = 2 * time.Second

// downs are the times at which a host cannot answer, by host. Only its own processes' end or stop counts: neither a network nor a LUN
// that is gone keeps an agent from answering out of its mirror.
type downs map[string][]quiet

// stops are the kinds of faults that stop or end an agent, or take its membership.
var stops = []string{"kill.", "host.", "stop.", "restart.", "data.", "member.", "power."}

// downTimes are those of a run.
func downTimes(r Record) downs {
	d := downs{}
	for _, f := range r.Faults {
		if !slices.ContainsFunc(stops, func(s string) bool { return strings.HasPrefix(f.Kind, s) }) {
			continue
		}
		hosts := f.Targets
		if len(hosts) == 0 {
			hosts = r.Run.Hosts
		}
		end := f.End
		if end < f.Begin {
			end = r.Run.Lasted
		}
		for _, h := range hosts {
			d[h] = append(d[h], quiet{from: f.Begin, to: end + recovery})
		}
	}
	exits, _ := loadExits(r) // that they are missing is said by Logs
	for _, x := range exits {
		d[x.Host] = append(d[x.Host], quiet{from: killed(r.Faults, x.Host, x.when), to: x.when + recovery})
	}
	return d
}

// killed is when an agent that was gone at a time was killed, at the earliest. One that waits for a hung disk is gone when that goes on.
func killed(faults []history.Fault, host string, gone time.Duration) time.Duration {
	from := gone - exitTime
	for _, f := range faults {
		if f.Kind == "disk.hang" && slices.Contains(f.Targets, host) && f.Begin < from && gone < f.End+exitTime {
			from = f.Begin
		}
	}
	return from
}

// touches says whether a host was down at some time in [from, to].
func (d downs) touches(host string, from, to time.Duration) bool {
	return slices.ContainsFunc(d[host], func(q quiet) bool { return from <= q.to && to >= q.from })
}

// readTime is how long a host may take to answer out of its mirror.
const readTime = 2 * time.Second

// ReadsAnswered judges that every host that is alive answered reads out of its mirror, and how the pool is, at all times.
func ReadsAnswered(r Record) history.Verdict {
	const name = "reads of alive hosts"
	var f findings
	down := downTimes(r)
	reads, samples := 0, 0
	seen := map[string]bool{}
	for _, o := range r.Ops {
		if groupOf(o) != Reads {
			continue
		}
		end := o.Return
		if o.Outcome == history.Unknown || end == history.Forever {
			end = o.Call + readTime
		}
		if down.touches(o.Host, o.Call, end) {
			continue
		}
		reads++
		seen[o.Host] = true
		switch {
		case !answered(o):
			f.add("%s did not answer %s %s asked at %.3fs: %s %s", o.Host, o.Kind, o.Key, o.Call.Seconds(), o.Code, o.Error)
		case o.Return-o.Call > readTime:
			f.add("%s took %s for %s asked at %.3fs", o.Host, (o.Return - o.Call).Round(time.Millisecond), o.Kind, o.Call.Seconds())
		}
	}
	for _, s := range r.Samples {
		if down.touches(s.Host, s.At, s.At+readTime) {
			continue
		}
		samples++
		if !s.Answered {
			f.add("%s did not say how the pool is at %.3fs", s.Host, s.At.Seconds())
		}
	}
	for _, h := range r.Run.Hosts {
		if !seen[h] {
			f.add("%s was never asked while it was alive", h)
		}
	}
	return f.verdict(name, "%d reads and %d samples while the host asked was alive, each answered within %s", reads, samples, readTime)
}
