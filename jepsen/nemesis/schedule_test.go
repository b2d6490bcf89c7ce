package nemesis

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"
)

const tenMinutes = 10 * time.Minute

func TestMake_sameSeedSamePlan(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		a, b := mustMake(t, seed, 3, tenMinutes, Catalogue()), mustMake(t, seed, 3, tenMinutes, Catalogue())
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("seed %d gives two plans", seed)
		}
		if c := mustMake(t, seed+1, 3, tenMinutes, Catalogue()); reflect.DeepEqual(a.Faults, c.Faults) {
			t.Errorf("seeds %d and %d give one plan", seed, seed+1)
		}
	}
}

// unsound says what is wrong with a plan.
func unsound(s Schedule) error {
	kinds := map[string]Nemesis{}
	for _, n := range Catalogue() {
		kinds[n.Name] = n
	}
	if !slices.IsSortedFunc(s.Faults, func(a, b Planned) int { return int(a.At - b.At) }) {
		return errors.New("not in order")
	}
	for i, p := range s.Faults {
		if p.At+p.For > s.Length-lastQuiet(devBounds) {
			return errors.New(p.Kind + " leaves no time to become well")
		}
		var with []Nemesis
		for j, o := range s.Faults {
			overlap := p.At <= o.At+o.For && o.At <= p.At+p.For
			if i != j && o.Group == p.Group {
				with = append(with, kinds[o.Kind])
			} else if i != j && overlap {
				return errors.New("groups overlap")
			}
		}
		if len(with) >= maxTogether || contradicts(kinds[p.Kind], with, s.Hosts) {
			return errors.New(p.Kind + " contradicts its group")
		}
	}
	return nil
}

func TestMake_sound(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		for _, hosts := range []int{3, 5} {
			s := mustMake(t, seed, hosts, tenMinutes, Catalogue())
			if err := unsound(s); err != nil {
				t.Fatalf("seed %d, %d hosts: %v", seed, hosts, err)
			}
			seen := map[string]int{}
			alone, three := 0, 0
			groups := map[int]int{}
			for _, p := range s.Faults {
				seen[p.Kind]++
				groups[p.Group]++
			}
			for _, n := range groups {
				alone, three = alone+min(1, 2/(n+1)), three+n/3
			}
			if len(seen) != len(Catalogue()) || alone == 0 || three == 0 {
				t.Errorf("seed %d, %d hosts: %d faults of %d kinds, %d alone, %d groups of three", seed, hosts, len(s.Faults), len(seen), alone, three)
			}
		}
	}
}

// unsound can fail.
// Each kind comes alone once before one comes twice, and long enough after the one before.
func TestMake_alone(t *testing.T) {
	t.Parallel()
	s, err := Make(7, 3, 30*time.Minute, devBounds, Catalogue(), Alone)
	if err != nil {
		t.Fatal(err)
	}
	if err := unsound(s); err != nil {
		t.Error(err)
	}
	kinds := map[string]bool{}
	for i, p := range s.Faults {
		kinds[p.Kind] = true
		if i > 0 && p.At < s.Faults[i-1].At+s.Faults[i-1].For+dead(devBounds) {
			t.Errorf("%s comes %v after %s", p.Kind, p.At-s.Faults[i-1].At, s.Faults[i-1].Kind)
		}
	}
	if len(kinds) != len(Catalogue()) {
		t.Errorf("%d of %d kinds come in half an hour", len(kinds), len(Catalogue()))
	}
}

func TestMake_plantedPlans(t *testing.T) {
	t.Parallel()
	at := func(kind string, from, lasts int, group int) Planned {
		return Planned{At: time.Duration(from) * time.Second, For: time.Duration(lasts) * time.Second, Kind: kind, Group: group}
	}
	for name, faults := range map[string][]Planned{
		"two hosts of three down":    {at("kill.both", 5, 5, 0), at("host.off", 6, 5, 0)},
		"two partitions":             {at("net.one", 5, 5, 0), at("net.gossip", 6, 5, 0)},
		"a majority damaged":         {at("data.flip", 5, 5, 0), at("data.flip", 6, 5, 0)},
		"four at once":               {at("kill.both", 5, 5, 0), at("clock.jump", 5, 5, 0), at("path.cut", 5, 5, 0), at("disk.full", 5, 5, 0)},
		"until the end":              {at("kill.both", 55, 5, 0)},
		"into the next one":          {at("kill.both", 5, 5, 0), at("path.cut", 9, 5, 1)},
		"a leave during a partition": {at("net.one", 5, 5, 0), at("member.rejoin", 6, 5, 0)},
	} {
		if unsound(Schedule{Hosts: 3, Length: time.Minute, Faults: faults}) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Of two hosts one may be down, and none may lose its data: the plan goes on without that.
func TestMake_twoHosts(t *testing.T) {
	t.Parallel()
	s := mustMake(t, 1, 2, tenMinutes, Catalogue())
	n := map[string]int{}
	for _, f := range s.Faults {
		n[f.Kind]++
	}
	if n["data.flip"] > 0 || n["kill.both"] == 0 || n["power.lies"] == 0 || s.Faults[len(s.Faults)-1].At < 8*time.Minute {
		t.Errorf("%v, the last at %s", n, s.Faults[len(s.Faults)-1].At)
	}
}

func TestMake_refuses(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func() (Schedule, error){
		"one host":  func() (Schedule, error) { return Make(1, 1, tenMinutes, devBounds, Catalogue(), Combined) },
		"two hosts": func() (Schedule, error) { return Make(1, 2, tenMinutes, devBounds, damage(), Combined) },
		"no kinds":  func() (Schedule, error) { return Make(1, 3, tenMinutes, devBounds, nil, Combined) },
		"no time":   func() (Schedule, error) { return Make(1, 3, 10*time.Second, devBounds, Catalogue(), Combined) },
	} {
		if _, err := f(); !errors.Is(err, ErrNoFaults) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOrder_aims(t *testing.T) {
	t.Parallel()
	hosts, v := []string{"a", "b", "c"}, view{spm: "b", leader: "c"}
	for _, tt := range []struct {
		aim  Aim
		turn int
		v    view
		want []string
	}{
		{TheSPM, 0, v, []string{"b", "a", "c"}}, {TheLeader, 1, v, []string{"c", "b", "a"}}, {Anybody, 2, v, []string{"c", "a", "b"}},
		{TheSPM, 1, view{}, []string{"b", "c", "a"}}, {TheSPM, 1, view{spm: "gone"}, []string{"b", "c", "a"}},
	} {
		if got := order(hosts, tt.aim, tt.turn, tt.v); !slices.Equal(got, tt.want) {
			t.Errorf("%s, turn %d: %v, want %v", tt.aim, tt.turn, got, tt.want)
		}
	}
}
