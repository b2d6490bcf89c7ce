package nemesis

import (
	"context"
	"errors"
	"time"
)

// wakeLag bounds how much later than the agent the keeper of a host that was stopped goes on.
const wakeLag = 300 * time.Millisecond

func stopping() []Nemesis {
	return []Nemesis{
		{Name: "stop.short", Does: "stops agent, keeper or both with SIGSTOP for less than a lease lives", Takes: []Resource{OfProcesses}, Lasts: belowExpiry, inject: stop(Agent, Keeper, Both)},
		{Name: "stop.long", Does: "stops agent, keeper or both until the lease is dead and somebody else's, then lets them go on", Takes: []Resource{OfProcesses}, Lasts: pastDeath, inject: stop(Agent, Keeper, Both)},
		{Name: "stop.agent", Does: "stops an agent while its keeper goes on renewing: it can be fenced, and wakes up to what was done meanwhile", Takes: []Resource{OfProcesses}, Lasts: aroundFence, inject: stop(Agent)},
		{Name: "stop.host", Does: "stops all processes of a host, as a machine that is suspended, until the lease is somebody else's", Takes: []Resource{OfProcesses}, Lasts: pastDeath, inject: stop(Machine)},
	}
}

// stop stops one of some parts.
func stop(parts ...Part) func(context.Context, *Running) error {
	return func(_ context.Context, r *Running) error { return stopPart(r, one(r, parts...)) }
}

func stopPart(r *Running, part Part) error {
	h := r.host()
	r.hits(string(part), h)
	// A host that others took for dead may have been switched off meanwhile, hence the start.
	r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
	lag := r.between(0, wakeLag)
	r.onHeal(func(ctx context.Context) error {
		if part != Both && part != Machine {
			return r.Resume(h, part)
		}
		// A machine that goes on gives its processes a processor in any order: here those that write before the keeper, which knows.
		err := r.Resume(h, Writers)
		_ = pause(ctx, lag) // the keeper goes on in any case
		return errors.Join(err, r.Resume(h, Machine))
	})
	return r.Pause(h, part)
}
