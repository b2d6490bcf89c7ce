package nemesis

import (
	"context"
	"errors"
)

func killing() []Nemesis {
	return []Nemesis{
		{Name: "kill.agent", Does: "kills a host's agent; its keeper sees it and frees the leases", Takes: []Resource{OfProcesses}, Lasts: aroundDeath, inject: kill(Agent)},
		{Name: "kill.keeper", Does: "kills a host's keeper; its agent must stop writing", Takes: []Resource{OfProcesses}, Lasts: shortly, inject: kill(Keeper)},
		{Name: "kill.both", Does: "kills agent and keeper; nobody is left who could free the leases", Takes: []Resource{OfProcesses}, Lasts: aroundDeath, inject: kill(Both)},
		{Name: "host.off", Does: "takes the power of a host, its connections to the LUN with it", Takes: []Resource{OfProcesses}, Lasts: aroundDeath, inject: powerOff},
		{Name: "host.off-torn", Does: "takes the power of a host in the middle of a write, of which only a part lands", Needs: []Ability{HasLUN},
			Takes: []Resource{OfProcesses, OfPath}, Lasts: aroundDeath, inject: powerOffTorn},
		{Name: "restart.all", Does: "takes the power of all hosts at once, and gives it back", Reach: All, Takes: []Resource{OfProcesses}, Lasts: shortly, inject: restartAll},
	}
}

func kill(p Part) func(context.Context, *Running) error {
	return func(_ context.Context, r *Running) error {
		h := r.host()
		r.hits(string(p), h)
		r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
		return r.Kill(h, p)
	}
}

func powerOff(_ context.Context, r *Running) error {
	h := r.host()
	r.hits("", h)
	r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
	return r.PowerOff(h)
}

// powerOffTorn waits for a write to tear. A lease is renewed every two I/O timeouts, so one comes, unless the host writes nothing.
func powerOffTorn(ctx context.Context, r *Running) error {
	h, path := r.host(), r.LUN().Path(r.host())
	r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
	r.onHeal(func(context.Context) error { path.Heal(); return nil }) // before the start
	wait, cancel := context.WithTimeout(ctx, 3*r.bounds.IOTimeout)
	defer cancel()
	select {
	case <-path.TearNext():
		r.hits("a write is torn", h)
	case <-wait.Done():
		r.hits("no write came that could be torn", h)
	}
	return r.PowerOff(h)
}

func restartAll(_ context.Context, r *Running) error {
	hosts := r.Hosts()
	r.hits("", hosts...)
	var errs []error
	for _, h := range hosts {
		r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
	}
	for _, h := range r.order {
		errs = append(errs, r.PowerOff(h))
	}
	return errors.Join(errs...)
}
