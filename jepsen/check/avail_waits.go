package check

import (
	"encoding/json"
	"slices"
	"sort"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Groups of operations whose availability is measured.
const (
	Creates         = "creates"
	Reads           = "reads"            // from a host's own mirror
	ConsistentReads = "consistent reads" // by the leader's word
	Extends         = "extensions"
	GuestWrites     = "guests' writes"
)

// groupOf is the group of an operation; empty: not measured.
func groupOf(o history.Op) string {
	switch o.Kind {
	case history.VolumeCreate:
		return Creates
	case history.VolumeExtend:
		return Extends
	case history.GuestWrite:
		return GuestWrites
	case history.VolumeList, history.VolumeShow:
		var in struct {
			Consistent bool `json:"consistent"`
		}
		if len(o.Input) > 0 && json.Unmarshal(o.Input, &in) == nil && in.Consistent {
			return ConsistentReads
		}
		return Reads
	}
	return ""
}

// refusals are answers of somebody who could have done it: they show that the service was there.
var refusals = []string{api.CodeNotFound, api.CodeNameTaken, api.CodeConflict, api.CodeInvalid, api.CodeNoSpace, api.CodeLimit}

func answered(o history.Op) bool {
	return o.Outcome == history.OK || o.Outcome == history.Failed && slices.Contains(refusals, o.Code)
}

// waits answers how long somebody who asked at a moment had to wait until an answer was to be had. That is what a fault costs; the
// answer may have been given to somebody else, who asked later.
type waits struct {
	calls []time.Duration // of those who were answered, sorted
	best  []time.Duration // earliest return of all calls from here on
	end   time.Duration
}

func newWaits(ops []history.Op, end time.Duration) waits {
	var ok []history.Op
	for _, o := range ops {
		if answered(o) {
			ok = append(ok, o)
		}
	}
	slices.SortFunc(ok, func(a, b history.Op) int { return int(a.Call - b.Call) })
	w := waits{end: end, calls: make([]time.Duration, len(ok)), best: make([]time.Duration, len(ok))}
	least := history.Forever
	for i := len(ok) - 1; i >= 0; i-- {
		least = min(least, ok[i].Return)
		w.calls[i], w.best[i] = ok[i].Call, least
	}
	return w
}

// from is the wait of somebody who asks at a moment. Where no answer came any more it is what was left of the run.
func (w waits) from(at time.Duration) time.Duration {
	i := sort.Search(len(w.calls), func(i int) bool { return w.calls[i] >= at })
	if i == len(w.calls) {
		return max(0, w.end-at)
	}
	return w.best[i] - at
}
