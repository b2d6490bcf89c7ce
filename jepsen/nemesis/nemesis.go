package nemesis

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Ability is something that the harness may have or not.
type Ability string

// The abilities. Without any, processes can still be killed and stopped, and roles moved.
const (
	HasNetwork Ability = "network" // namespaces and cables; takes root
	HasLUN     Ability = "lun"     // the harness serves the LUN
	HasDisk    Ability = "disk"    // file systems of their own for the data directories; takes root
	HasClock   Ability = "clock"   // the program takes its time from the harness
	HasPower   Ability = "power"   // hosts have power switches, and the pool uses them
)

// Reach is how many hosts a fault keeps others away from.
type Reach int

// The reaches.
const (
	One Reach = iota
	All
)

// Nemesis is a kind of fault.
type Nemesis struct {
	Name  string
	Does  string // one line for the list
	Needs []Ability
	Reach Reach
	Takes []Resource // what no other fault may touch meanwhile, of the hosts in reach
	Lasts func(history.Bounds) (least, most time.Duration)
	// inject does it. It says how it is healed before each step that it does, so that half a fault can be healed too.
	inject func(ctx context.Context, r *Running) error
}

// Setup brings all that the fault touches to the state that it starts from. An error says that it cannot be injected here.
func (n Nemesis) Setup(ctx context.Context, c Cluster) error {
	for _, r := range n.Takes {
		if !touches(n, r) {
			continue
		}
		if err := calm(ctx, c, viaClients{c}, r); err != nil {
			return fmt.Errorf("preparing %s: %w", n.Name, err)
		}
	}
	return nil
}

// Available lists the faults that a harness with some abilities can inject, in the order of the catalogue.
func Available(has ...Ability) []Nemesis {
	return slices.DeleteFunc(Catalogue(), func(n Nemesis) bool { return len(missing(n, has)) > 0 })
}

func missing(n Nemesis, has []Ability) (m []string) {
	for _, a := range n.Needs {
		if !slices.Contains(has, a) {
			m = append(m, string(a))
		}
	}
	return m
}

// Select picks faults by name; "net." stands for all whose names begin so.
func Select(from []Nemesis, names []string) ([]Nemesis, error) {
	var out []Nemesis
	for _, name := range names {
		fits := func(n Nemesis) bool {
			return n.Name == name || strings.HasSuffix(name, ".") && strings.HasPrefix(n.Name, name)
		}
		if !slices.ContainsFunc(from, fits) {
			return nil, fmt.Errorf("no fault is called %q, or this machine cannot inject it; see the list of faults", name)
		}
		for _, n := range from {
			if fits(n) && !slices.ContainsFunc(out, func(o Nemesis) bool { return o.Name == n.Name }) {
				out = append(out, n)
			}
		}
	}
	return out, nil
}

// List prints the catalogue, and what of it cannot be had and why.
func List(w io.Writer, has ...Ability) error {
	for _, n := range Catalogue() {
		line := fmt.Sprintf("%-16s %s", n.Name, n.Does)
		if m := missing(n, has); len(m) > 0 {
			line += " (not here: needs " + strings.Join(m, ", ") + ")"
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return fmt.Errorf("printing the list of faults: %w", err)
		}
	}
	return nil
}
