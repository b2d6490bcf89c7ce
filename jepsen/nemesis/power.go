package nemesis

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// power faults are on hosts' power switches. Nobody asks a switch before its host is silent, so most of them make it that.
func power() []Nemesis {
	kind := func(name, does string, inject func(context.Context, *Running) error) Nemesis {
		return Nemesis{Name: name, Does: does, Needs: []Ability{HasPower}, Takes: []Resource{OfProcesses, OfPower}, Lasts: pastDeath, inject: inject}
	}
	hung := func(name, does, ails string) Nemesis {
		n := kind(name, does, hungBehind(ails))
		n.Lasts = pastFence
		return n
	}
	ordered := kind("power.off", "an operator has the pool switch a host off, whatever it does, and somebody switches it on again", powerOrdered)
	ordered.Lasts = aroundDeath
	return []Nemesis{
		ordered,
		kind("power.dead", "takes the power of a host, and of its switch with it: nobody can prove anything there", powerDead),
		hung("power.lies", "a host hangs, and its switch says that it switched it off and does nothing", history.SwitchLies),
		hung("power.denies", "a host hangs, and its switch switches it off and says that it could not", history.SwitchDenies),
		hung("power.slow", "a host hangs, and its switch does and answers everything seconds late", history.SwitchSlow),
	}
}

// switchOf breaks a host's switch.
func switchOf(r *Running, ails string) error {
	h := r.host()
	r.onHeal(func(context.Context) error { return r.SetSwitch(h, "") })
	return r.SetSwitch(h, ails)
}

// powerOrdered asks the pool. No host acts on its own power, so a leader is deposed first.
func powerOrdered(ctx context.Context, r *Running) error {
	h, v := r.host(), r.admin.look(ctx)
	via, to, err := r.choose(v, h)
	if err != nil {
		return err
	}
	r.hits("", h)
	if v.leader == h {
		r.hits("deposed first", h)
		if err := r.admin.transfer(ctx, via, to); err != nil {
			return err
		}
	}
	r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
	return r.admin.powerOff(ctx, to, h)
}

func powerDead(_ context.Context, r *Running) error {
	h := r.host()
	r.hits("", h)
	r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
	if err := switchOf(r, history.SwitchDead); err != nil {
		return err
	}
	return r.PowerOff(h)
}

// hungBehind stops a host, or its agent alone, so that it is fenced through a switch that something ails.
func hungBehind(ails string) func(context.Context, *Running) error {
	return func(_ context.Context, r *Running) error {
		if err := switchOf(r, ails); err != nil {
			return err
		}
		return stopPart(r, one(r, Agent, Machine))
	}
}

func (a viaClients) powerOff(ctx context.Context, via, host string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	order := api.PowerOrder{Action: api.PowerOff, Reason: "fault injection", Force: true}
	if _, err := a.c.Client(via).PowerOrder(ctx, host, order); err != nil {
		return fmt.Errorf("having %s switched off: %w", host, err)
	}
	return nil
}
