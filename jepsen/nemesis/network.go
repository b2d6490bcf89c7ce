package nemesis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// network faults keep each other away from all hosts: a partition is mended as a whole.
func network() []Nemesis {
	kind := func(name, does string, inject func(context.Context, *Running) error) Nemesis {
		return Nemesis{Name: name, Does: does, Needs: []Ability{HasNetwork}, Reach: All, Takes: []Resource{OfNetwork}, Lasts: seconds, inject: inject}
	}
	return []Nemesis{
		kind("net.halves", "splits the hosts into a majority and a minority that do not hear each other", halves),
		kind("net.one", "cuts one host off from all others; it reaches the LUN", single(Everything)),
		kind("net.oneway", "a host is not heard, or does not hear, in one direction only", oneWay),
		kind("net.gossip", "drops the gossip of one host, nothing else", single(Gossip)),
		kind("net.raft", "drops Raft and the calls of one host, while gossip says that it lives", single(Raft)),
		kind("net.unplug", "pulls a host's cable: everything but storage is gone, its API too", unplug),
	}
}

// halves cuts between a minority with the aimed host and the rest. Of two hosts neither is a majority.
func halves(_ context.Context, r *Running) error {
	most := max(1, (len(r.order)-1)/2)
	few := r.order[:1+r.rand.IntN(most)]
	rest := r.order[len(few):]
	r.hits(fmt.Sprintf("%s | %s", strings.Join(few, " "), strings.Join(rest, " ")), few...)
	return r.cut(few, rest, Everything, true, true)
}

func single(t Traffic) func(context.Context, *Running) error {
	return func(_ context.Context, r *Running) error {
		r.hits(string(t), r.host())
		return r.cut(r.order[:1], r.order[1:], t, true, true)
	}
}

// oneWay drops all that a host sends, or all that it would hear, from one other or from everybody.
func oneWay(_ context.Context, r *Running) error {
	h, others, out := r.host(), r.order[1:], one(r, true, false)
	if one(r, true, false) {
		others = others[:1]
	}
	how := map[bool]string{true: "is not heard by", false: "does not hear"}[out]
	r.hits(fmt.Sprintf("%s %s %s", h, how, strings.Join(others, " ")), h)
	return r.cut([]string{h}, others, Everything, out, !out)
}

// cut drops what goes from one side to the other, or comes back, or both.
func (r *Running) cut(a, b []string, t Traffic, out, in bool) error {
	r.onHeal(func(context.Context) error { return r.MendNetwork() })
	a, b = slices.Clone(a), slices.Clone(b)
	var errs []error
	for _, x := range a {
		for _, y := range b {
			if out {
				errs = append(errs, r.Block(x, y, t))
			}
			if in {
				errs = append(errs, r.Block(y, x, t))
			}
		}
	}
	return errors.Join(errs...)
}

func unplug(_ context.Context, r *Running) error {
	h := r.host()
	r.hits("", h)
	r.onHeal(func(context.Context) error { return r.Plug(h) })
	return r.Unplug(h)
}
