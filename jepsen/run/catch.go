package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// mistake is one that can be planted into the program, with the faults under which it does harm, and the checkers of which one must
// find it. A checker that fails for another reason does not count.
type mistake struct {
	name     string
	faults   string
	fencing  bool // with power management
	nodogs   bool // without watchdogs, which would reset the host before its guard is asked
	checkers []string
}

// writers are the checkers of two hosts that write at the same time, and of what comes of it.
var writers = []string{"single writer", "commits of the volume group", "records of hosts and leases", "judges", "epochs", "nothing lost"}

// mistakes are those of package internal/plant.
var mistakes = []mistake{
	{name: "stale-read", faults: "net.", checkers: []string{"linear volumes", "linear registers"}},
	{name: "double-free", faults: "kill.agent", checkers: []string{"judges", "recovery"}},
	{name: "mirror-first", faults: "kill.,path.eio-write,path.cut,stop.", checkers: []string{"linear volumes", "linear disk", "nothing lost", "mirror reads", "mirrors"}},
	{name: "guard-forever", faults: "stop.host", nodogs: true, checkers: writers},
	{name: "no-epoch-check", faults: "stop.host", nodogs: true, checkers: writers},
	{name: "late-write", faults: "path.stick,spm.", nodogs: true, checkers: writers},
	{name: "fence-no-wait", faults: "stop.agent", fencing: true, nodogs: true, checkers: writers},
	{name: "unguarded-export", faults: "kill.both,stop.host", nodogs: true, checkers: []string{"data writers", "lost writes"}},
	{name: "extend-twice", faults: "kill.agent", checkers: []string{"data writers", "lost writes", "space", "judges", "recovery"}},
	{name: "drop-write", faults: "spm.move", checkers: []string{"lost writes"}},
	{name: "mail-once", faults: "net.one,net.unplug", checkers: []string{"availability", "mailbox"}},
	{name: "fence-no-intent", faults: "power.off", fencing: true, checkers: []string{"duels"}},
	{name: "proof-no-status", faults: "power.lies", fencing: true, nodogs: true, checkers: []string{"deaths"}},
	{name: "free-no-proof", faults: "stop.agent,power.slow", fencing: true, checkers: []string{"deaths"}},
}

// tries is how many seeds a mistake has to show: it takes a fault at the right moment.
const tries = 4

// catchAll plants all mistakes, or those of --plant, one run each.
func catchAll(ctx context.Context, o options) int {
	missed := 0
	only := strings.Split(o.plant, ",")
	for _, name := range only {
		if o.plant != "" && !slices.ContainsFunc(mistakes, func(m mistake) bool { return m.name == name }) {
			fmt.Printf("FAIL  %-16s there is no such mistake\n", name)
			missed++
		}
	}
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

// caught runs with a mistake, with one seed after the other, and says who found it, and what.
func (m mistake) caught(ctx context.Context, o options) (string, error) {
	o.plant, o.faults, o.fencing, o.nodogs = m.name, m.faults, m.fencing, m.nodogs
	for range tries {
		r, err := execute(ctx, o)
		if err != nil {
			return "", err
		}
		if found := foundBy(r.run.Verdicts, m.checkers); found != "" {
			return found, nil
		}
		for _, v := range r.run.Verdicts {
			if !v.OK {
				fmt.Printf("      seed %d: %s: %s\n", o.seed, v.Checker, v.Summary)
			}
		}
		o.seed++
	}
	return "", nil
}

// foundBy is what the first of some checkers has found; empty: nothing.
func foundBy(all []history.Verdict, checkers []string) string {
	for _, v := range all {
		if !v.OK && slices.Contains(checkers, v.Checker) && v.Summary != check.NotChecked {
			line := v.Summary
			if len(v.Faults) > 0 {
				line = v.Faults[0]
			}
			return v.Checker + ": " + line
		}
	}
	return ""
}
