package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// lost is the kind of what a power loss took back: bytes that were answered and never flushed are again what they were before. It
// is nobody's write, but it changes what is on the LUN.
const lost = history.Mutation("lost")

// landed lists the mutations that changed the LUN, in the order in which they did, each as long as it really was.
func landed(all []history.Entry) []history.Entry {
	var out []history.Entry
	for _, e := range all {
		if e.Landed == 0 || e.Kind == history.Flush {
			continue
		}
		if e.Torn > 0 && e.Torn < e.Len {
			e.Len = e.Torn
			e.Data = e.Data[:min(int64(len(e.Data)), e.Torn)]
		}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b history.Entry) int {
		return cmp.Or(cmp.Compare(a.Landed, b.Landed), cmp.Compare(a.Seq, b.Seq))
	})
	return out
}

// bytesOf are a piece's bytes, where the record has them. A write of zeroes has no data and needs none.
func bytesOf(e history.Entry, p piece) []byte {
	if int64(len(e.Data)) < p.skip+p.len {
		return nil
	}
	return e.Data[p.skip : p.skip+p.len]
}

// tell names a write for people.
func tell(e history.Entry, p piece) string {
	answer := ""
	if e.Told == 0 {
		answer = ", its connection was gone by then"
	}
	return fmt.Sprintf("%s of %d bytes by %s at %s+%d (#%d, came %.3fs, landed %.3fs%s)",
		e.Kind, e.Len, e.Host, p.area.Name, p.off, e.Seq, e.Came.Seconds(), e.Landed.Seconds(), answer)
}

// findings gathers what a checker found. Only the first of them are kept; all are counted.
type findings struct {
	list []string
	n    int
}

const maxFindings = 50

func (f *findings) add(format string, args ...any) {
	if f.n++; f.n <= maxFindings {
		f.list = append(f.list, fmt.Sprintf(format, args...))
	}
}

// verdict ends a checker.
func (f *findings) verdict(checker, summary string, args ...any) history.Verdict {
	if f.n > len(f.list) {
		f.list = append(f.list, fmt.Sprintf("and %d more", f.n-maxFindings))
	}
	return history.Verdict{Checker: checker, OK: f.n == 0, Summary: fmt.Sprintf(summary, args...), Faults: f.list}
}

// NotChecked is the summary of a verdict that found nothing, because it could not look.
const NotChecked = "could not check"

// failed is the verdict of a checker that could not do its work, which is no pass.
func failed(checker string, err error) history.Verdict {
	return history.Verdict{Checker: checker, Summary: NotChecked, Faults: []string{err.Error()}}
}
