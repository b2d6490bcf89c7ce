package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Epochs looks at the epochs in answers to changes: a change that is asked for after another was answered never has an
// older one, and an epoch belongs to one host.
func Epochs(r Record) history.Verdict {
	ops := slices.DeleteFunc(slices.Clone(r.Ops), func(op history.Op) bool {
		return op.Outcome != history.OK || op.Epoch == 0 || !changes[op.Kind]
	})
	found := append(epochsBack(ops), epochHosts(ops, r.Samples)...)
	highest := uint64(0)
	for _, op := range ops {
		highest = max(highest, op.Epoch)
	}
	return judged("epochs", found, "%d answers with an epoch, the highest is %d", len(ops), highest)
}

// changes are the kinds whose answer says under which epoch something was done.
var changes = map[string]bool{history.VolumeCreate: true, history.VolumeDelete: true, history.VolumeDescribe: true, history.SPMMove: true}

// epochsBack finds changes whose epoch is older than one that was answered before they were asked for.
func epochsBack(ops []history.Op) []string {
	calls, returns := slices.Clone(ops), slices.Clone(ops)
	slices.SortStableFunc(calls, func(a, b history.Op) int { return cmp.Compare(a.Call, b.Call) })
	slices.SortStableFunc(returns, func(a, b history.Op) int { return cmp.Compare(a.Return, b.Return) })
	var found []string
	var newest history.Op
	next := 0
	for _, op := range calls {
		for ; next < len(returns) && returns[next].Return < op.Call; next++ {
			if returns[next].Epoch > newest.Epoch {
				newest = returns[next]
			}
		}
		if op.Epoch < newest.Epoch {
			found = append(found, fmt.Sprintf("%s of %s at %s was done under epoch %d, after a %s under epoch %d had been answered at %s",
				op.Kind, op.Key, at(op.Call), op.Epoch, newest.Kind, newest.Epoch, at(newest.Return)))
		}
	}
	return found
}

// epochHosts finds epochs that two hosts were said to have.
func epochHosts(ops []history.Op, samples []history.Sample) []string {
	var found []string
	hosts := map[uint64]string{}
	see := func(epoch uint64, host, where string) {
		if epoch == 0 || host == "" {
			return
		}
		if had := hosts[epoch]; had != "" && had != host {
			found = append(found, fmt.Sprintf("epoch %d belongs to %s, and to %s as %s says", epoch, had, host, where))
			return
		}
		hosts[epoch] = host
	}
	for _, op := range ops {
		var in history.MoveInput
		var out history.MoveAnswer
		if op.Kind == history.SPMMove && decode(op, &in, &out) == nil {
			see(op.Epoch, out.Host, "a move at "+at(op.Return))
		}
	}
	for _, s := range samples {
		if s.Answered && s.SPMState == "serving" {
			see(s.Epoch, s.SPM, s.Host+" at "+at(s.At))
		}
	}
	return found
}
