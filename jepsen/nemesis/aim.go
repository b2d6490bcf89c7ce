package nemesis

import (
	"math/rand/v2"
	"slices"
)

// Aim is whom a fault is to hit.
type Aim string

// The aims.
const (
	TheSPM    Aim = "spm"
	TheLeader Aim = "leader"
	Anybody   Aim = "anybody"
)

// drawAim prefers where it hurts: the host that writes, then the one that decides.
func drawAim(rng *rand.Rand) Aim {
	switch n := rng.IntN(100); {
	case n < 45:
		return TheSPM
	case n < 70:
		return TheLeader
	default:
		return Anybody
	}
}

// order is all hosts, first the one that is aimed at, then the rest in the turn that the seed has chosen.
func order(hosts []string, aim Aim, turn int, v view) []string {
	n := len(hosts)
	out := slices.Concat(hosts[turn%n:], hosts[:turn%n])
	want := map[Aim]string{TheSPM: v.spm, TheLeader: v.leader}[aim]
	if i := slices.Index(out, want); i > 0 {
		out = slices.Concat([]string{want}, out[:i], out[i+1:])
	}
	return out
}
