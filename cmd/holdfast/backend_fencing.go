package main

import (
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// fencingWords says how far the fence operation on a host is; empty: none is under way.
func fencingWords(st *fsm.State, host string, now time.Time) string {
	op, ok := st.OpenFence(host)
	if !ok {
		return ""
	}
	words := op.Action
	if n := len(op.Steps); n > 0 {
		words += fmt.Sprintf(", at %s (%s)", op.Steps[n-1].Rung, op.Steps[n-1].Result)
	}
	return words + fmt.Sprintf(", for %s", max(0, now.Sub(unixTime(op.Began))).Round(time.Second))
}
