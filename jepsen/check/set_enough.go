package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Enough fails a run in which too little succeeded to prove anything, or in which one kind of operation never did.
func Enough(r Record) history.Verdict {
	least := r.Run.Least
	if least == 0 {
		least = max(1, int(r.Run.Lasted/(2*time.Second)))
	}
	tried, ok := map[string]int{}, map[string]int{}
	total, unknown := 0, 0
	for _, op := range r.Ops {
		tried[op.Kind]++
		switch op.Outcome {
		case history.OK:
			ok[op.Kind]++
			total++
		case history.Unknown:
			unknown++
		}
	}
	var found, each []string
	if total < least {
		found = append(found, fmt.Sprintf("%d operations succeeded, at least %d must", total, least))
	}
	for _, kind := range slices.Sorted(maps.Keys(tried)) {
		each = append(each, fmt.Sprintf("%s %d/%d", kind, ok[kind], tried[kind]))
		if ok[kind] == 0 && tried[kind] >= neverOK {
			found = append(found, fmt.Sprintf("none of %d operations %s succeeded", tried[kind], kind))
		}
	}
	return judged("enough operations", found, "%d of %d succeeded, %d unknown: %s", total, len(r.Ops), unknown, strings.Join(each, ", "))
}

// neverOK is how often a kind has to be tried before it is suspicious that it never works.
const neverOK = 10
