package check

import (
	"errors"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Pauses judges that guests were never short of space unless a fault lasted or had just ended: the hosts themselves count the writes
// that had to wait until a volume had grown.
func Pauses(r Record) history.Verdict {
	const name = "pauses"
	byHost := map[string][]history.Sample{}
	for _, s := range r.Samples {
		if s.Growth != nil {
			byHost[s.Host] = append(byHost[s.Host], s)
		}
	}
	all, _ := spans(r)
	var f findings
	var grown, pauses, quietly int
	var took, paused time.Duration
	for _, list := range byHost {
		slices.SortFunc(list, func(a, b history.Sample) int { return int(a.At - b.At) })
		for i, s := range list {
			from, was := time.Duration(0), history.Growth{}
			if i > 0 {
				from, was = list[i-1].At, *list[i-1].Growth
			}
			if s.Growth.Grown < was.Grown || s.Growth.Pauses < was.Pauses {
				was = history.Growth{} // another agent
			}
			grown, took = grown+s.Growth.Grown-was.Grown, took+s.Growth.Took-was.Took
			n, d := s.Growth.Pauses-was.Pauses, s.Growth.Paused-was.Paused
			pauses, paused = pauses+n, paused+d
			if n > 0 && !troubled(all, from-d, s.At) {
				quietly += n
				f.add("%s: writes waited for space %d times, for %s, at %s, and no fault was near", s.Host, n, d.Round(time.Millisecond), at(s.At))
			}
		}
	}
	if grown == 0 {
		return failed(name, errors.New("no volume of a guest has grown: nothing was proved"))
	}
	return f.verdict(name, "%d extensions of attached volumes, %s on average; writes waited %d times, %s in all, %d of them without a fault",
		grown, (took / time.Duration(grown)).Round(time.Millisecond), pauses, paused.Round(time.Millisecond), quietly)
}

// troubled says whether a fault, or what it left, touches a time.
func troubled(all []span, from, to time.Duration) bool {
	return slices.ContainsFunc(all, func(s span) bool { return s.Begin <= to && s.until >= from })
}
