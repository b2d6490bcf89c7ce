package nemesis

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Planned is one fault of a Schedule.
type Planned struct {
	At    time.Duration `json:"at"`  // since the run began
	For   time.Duration `json:"for"` // until it is healed
	Kind  string        `json:"kind"`
	Aim   Aim           `json:"aim"`
	Turn  int           `json:"turn"`  // which host, for Anybody and where the aimed one cannot be hit
	Seed  uint64        `json:"seed"`  // of how hard
	Group int           `json:"group"` // faults of a group overlap
}

// Schedule is what is to happen in a run.
type Schedule struct {
	Seed   uint64        `json:"seed"`
	Hosts  int           `json:"hosts"`
	Length time.Duration `json:"length"`
	Faults []Planned     `json:"faults"` // in the order of At
}

// Mix is how faults come.
type Mix int

const (
	Combined Mix = iota // alone and several at a time, sometimes before the pool is well again
	Alone               // one at a time, when nothing of the last one can be left: so it is seen what each of them costs
)

const (
	minHosts = 2 // below, nobody is left
	// maxTogether is how many faults may overlap.
	maxTogether = 3
	// settle is the quiet at the beginning: something must be there that can break.
	settle = 3 * time.Second
	// aloneSpare is added to the longest time that a fault's effect may last: its healing takes a while, and clients ask some times a
	// second only.
	aloneSpare = 9 * time.Second
	// drawings is how often a group is drawn again that does not fit into what is left of the time.
	drawings = 8
	// scheduleStream keeps the schedule's numbers apart from those of others that begin with the same seed.
	scheduleStream = 0x6e656d65736973
)

// ErrNoFaults says that nothing could be planned.
var ErrNoFaults = errors.New("no fault could be planned")

// Make plans a run of some length. It depends on nothing but its arguments.
func Make(seed uint64, hosts int, length time.Duration, b history.Bounds, kinds []Nemesis, mix Mix) (Schedule, error) {
	s := Schedule{Seed: seed, Hosts: hosts, Length: length}
	if hosts < minHosts || len(kinds) == 0 {
		return s, fmt.Errorf("%w: %d hosts, %d kinds of faults; use %d hosts at least", ErrNoFaults, hosts, len(kinds), minHosts)
	}
	kinds = slices.DeleteFunc(slices.Clone(kinds), func(n Nemesis) bool { return contradicts(n, nil, hosts) }) // too few hosts for it
	if len(kinds) == 0 {
		return s, fmt.Errorf("%w: none of these can be injected with %d hosts", ErrNoFaults, hosts)
	}
	p := planner{rng: rand.New(rand.NewPCG(seed, scheduleStream)), hosts: hosts, bounds: b, kinds: kinds, mix: mix}
	until := length - lastQuiet(b)
	for at, g := settle, 0; ; g++ {
		group := p.fitting(at, until)
		if len(group) == 0 {
			break
		}
		for i := range group {
			group[i].Group = g
		}
		s.Faults = append(s.Faults, group...)
		at = ends(group) + p.quiet()
	}
	if len(s.Faults) == 0 {
		return s, fmt.Errorf("%w: %s are too short; with these lease times give at least %s", ErrNoFaults, length, settle+lastQuiet(b)+dead(b))
	}
	return s, nil
}

// lastQuiet is the time in which the pool must become well after the last fault, and prove that it works.
func lastQuiet(b history.Bounds) time.Duration { return dead(b) + 5*time.Second }

// planner draws faults like cards, so that each kind comes once before one comes twice.
type planner struct {
	rng    *rand.Rand
	hosts  int
	bounds history.Bounds
	kinds  []Nemesis
	mix    Mix
	deck   []Nemesis
}

// quiet is the time between two groups: sometimes too short for the pool to be well again, unless each is to come alone.
func (p *planner) quiet() time.Duration {
	if p.mix == Alone {
		return dead(p.bounds) + 2*p.bounds.IOTimeout + aloneSpare
	}
	return spread(p.rng, time.Second, 4*time.Second+4*p.bounds.IOTimeout)
}

// fitting draws a group that ends in time. None: there is not enough time left for anything.
func (p *planner) fitting(at, until time.Duration) []Planned {
	for range drawings {
		group, kinds := p.group(at, p.together())
		if len(group) > 0 && ends(group) <= until {
			return group
		}
		p.deck = append(p.deck, kinds...) // their time may come
	}
	return nil
}

// together is how many faults overlap: mostly one.
func (p *planner) together() int {
	if p.mix == Alone {
		return 1
	}
	switch n := p.rng.IntN(10); {
	case n < 5:
		return 1
	case n < 8:
		return 2
	default:
		return maxTogether
	}
}

// group draws up to n faults that do not contradict each other. The longest begins, the others come while it lasts.
func (p *planner) group(at time.Duration, n int) ([]Planned, []Nemesis) {
	kinds := p.draw(n)
	group := make([]Planned, len(kinds))
	for i, k := range kinds {
		least, most := k.Lasts(p.bounds)
		group[i] = Planned{At: at, For: spread(p.rng, least, most), Kind: k.Name, Aim: drawAim(p.rng), Turn: p.rng.IntN(p.hosts), Seed: p.rng.Uint64()}
	}
	slices.SortStableFunc(group, func(a, b Planned) int { return int(b.For - a.For) })
	for i := 1; i < len(group); i++ {
		group[i].At = spread(p.rng, at, at+group[0].For)
	}
	slices.SortStableFunc(group, func(a, b Planned) int { return int(a.At - b.At) })
	return group, kinds
}

// draw takes from the deck. A fault that contradicts those that were drawn stays for the next group.
func (p *planner) draw(n int) (drawn []Nemesis) {
	if len(p.deck) == 0 {
		p.deck = slices.Clone(p.kinds)
		p.rng.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
	}
	for i := 0; i < len(p.deck) && len(drawn) < n; {
		if contradicts(p.deck[i], drawn, p.hosts) {
			i++
			continue
		}
		drawn = append(drawn, p.deck[i])
		p.deck = slices.Delete(p.deck, i, i+1)
	}
	return drawn
}

// contradicts reports whether a fault cannot be under way together with others, whomever they hit.
func contradicts(n Nemesis, with []Nemesis, hosts int) bool {
	for _, r := range n.Takes {
		taken := 0
		for _, o := range with {
			if !slices.Contains(o.Takes, r) {
				continue
			}
			if taken++; n.Reach == All || o.Reach == All {
				return true
			}
		}
		if n.Reach == One && taken >= limit(r, hosts) {
			return true
		}
	}
	return false
}

// ends is when the last of some faults is healed.
func ends(group []Planned) (end time.Duration) {
	for _, p := range group {
		end = max(end, p.At+p.For)
	}
	return end
}

// Print lists the plan for a person.
func (s Schedule) Print(w io.Writer) error {
	for _, p := range s.Faults {
		if _, err := fmt.Fprintf(w, "%8.1fs  %6.1fs  %-16s %s\n", p.At.Seconds(), p.For.Seconds(), p.Kind, p.Aim); err != nil {
			return fmt.Errorf("printing the plan: %w", err)
		}
	}
	return nil
}
