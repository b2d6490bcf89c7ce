package nemesis

import "context"

func stopping() []Nemesis {
	return []Nemesis{
		{Name: "stop.short", Does: "stops agent, keeper or both with SIGSTOP for less than a lease lives", Takes: []Resource{OfProcesses}, Lasts: belowExpiry, inject: stop},
		{Name: "stop.long", Does: "stops agent, keeper or both until the lease is dead and somebody else's, then lets them go on", Takes: []Resource{OfProcesses}, Lasts: pastDeath, inject: stop},
	}
}

func stop(_ context.Context, r *Running) error {
	h, part := r.host(), one(r, Agent, Keeper, Both)
	r.hits(string(part), h)
	// A host that others took for dead may have been switched off meanwhile, hence the start.
	r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
	r.onHeal(func(context.Context) error { return r.Resume(h, part) })
	return r.Pause(h, part)
}
