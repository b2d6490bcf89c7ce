package nemesis

import "context"

func disks() []Nemesis {
	return []Nemesis{
		{Name: "disk.full", Does: "fills the local disk under a host's Raft log", Needs: []Ability{HasDisk}, Takes: []Resource{OfDisk}, Lasts: seconds, inject: diskFull},
		// A process that waits for a frozen disk cannot be killed, so nobody else may want to.
		{Name: "disk.hang", Does: "freezes the local disk under a host's Raft log: writes do not return, heartbeats go on", Needs: []Ability{HasDisk},
			Takes: []Resource{OfDisk, OfProcesses}, Lasts: seconds, inject: diskHang},
	}
}

func diskFull(_ context.Context, r *Running) error {
	h := r.host()
	r.hits("", h)
	// An agent that could not write its log may have ended.
	r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
	r.onHeal(func(context.Context) error { return r.FreeDisk(h) })
	return r.FillDisk(h)
}

func diskHang(_ context.Context, r *Running) error {
	h := r.host()
	r.hits("", h)
	r.onHeal(func(ctx context.Context) error { return r.Start(ctx, h) })
	r.onHeal(func(context.Context) error { return r.ThawDisk(h) })
	return r.FreezeDisk(h)
}
