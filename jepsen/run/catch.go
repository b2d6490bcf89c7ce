package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// mistake is one that can be planted into the program, with the faults under which it does harm, and the checkers of which one must
// find it. A checker that fails for another reason does not count.
type mistake struct {
	name     string
	faults   string // empty: all
	fencing  bool
	profile  string
	checkers []string
}

// mistakes are those of package internal/plant.
var mistakes = []mistake{
	{name: "stale-read", faults: "net.", checkers: []string{"linear volumes", "linear registers"}},
	{name: "double-free", faults: "kill.agent", checkers: []string{"judges", "recovery"}},
	{name: "mirror-first", faults: "kill.,path.,stop.", checkers: []string{"linear volumes", "linear disk", "nothing lost", "mirror reads", "mirrors"}},
	{name: "guard-forever", faults: "stop.long,path.hang,path.unplug", checkers: []string{"single writer", "commits of the volume group", "judges"}},
	{name: "no-epoch-check", faults: "stop.long,path.hang,path.unplug,kill.,spm.", checkers: []string{"single writer", "commits of the volume group", "judges", "epochs"}},
	{name: "late-write", faults: "path.hang,path.slow,spm.", checkers: []string{"single writer", "commits of the volume group", "judges"}},
	{name: "fence-no-wait", faults: "stop.long,net.unplug", fencing: true, checkers: []string{"single writer", "commits of the volume group", "judges"}},
}

// catchAll plants all mistakes, or those of --plant, one run each.
func catchAll(ctx context.Context, o options) int {
	missed := 0
	only := strings.Split(o.plant, ",")
	for _, m := range mistakes {
		if o.plant != "" && !slices.Contains(only, m.name) {
			continue
		}
		found, err := m.caught(ctx, o)
		switch {
		case err != nil:
			fmt.Printf("FAIL  %-16s the run is worth nothing: %v\n", m.name, err)
			missed++
		case found == "":
			fmt.Printf("FAIL  %-16s not found\n", m.name)
			missed++
		default:
			fmt.Printf("ok    %-16s %s\n", m.name, found)
		}
		if ctx.Err() != nil {
			return exitBroken
		}
	}
	if missed > 0 {
		return exitViolation
	}
	return 0
}

// caught runs with a mistake and says who found it, and what.
func (m mistake) caught(ctx context.Context, o options) (string, error) {
	o.plant, o.faults, o.fencing = m.name, m.faults, m.fencing
	if m.profile != "" {
		o.profile = m.profile
	}
	r, err := execute(ctx, o)
	if err != nil {
		return "", err
	}
	return foundBy(r.run.Verdicts, m.checkers), nil
}

// foundBy is what the first of some checkers has found; empty: nothing.
func foundBy(all []history.Verdict, checkers []string) string {
	for _, v := range all {
		if !v.OK && slices.Contains(checkers, v.Checker) {
			line := v.Summary
			if len(v.Faults) > 0 {
				line = v.Faults[0]
			}
			return v.Checker + ": " + line
		}
	}
	return ""
}
