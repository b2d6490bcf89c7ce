package nemesis

import (
	"context"
	"errors"
)

func damage() []Nemesis {
	return []Nemesis{{
		Name: "data.flip", Does: "flips bits in the Raft log or snapshot of a host while it is off, and starts it with them",
		Takes: []Resource{OfData, OfProcesses, OfDisk}, Lasts: seconds, inject: flip,
	}}
}

func flip(ctx context.Context, r *Running) error {
	h, what, seed := r.host(), one(r, RaftLog, RaftSnapshot), r.rand.Int64()
	r.onHeal(func(ctx context.Context) error {
		return whileOff(ctx, r, h, func() error { return r.Undamage(h) })
	})
	err := whileOff(ctx, r, h, func() error {
		err := r.Damage(h, what, seed)
		if errors.Is(err, ErrNothingThere) && what == RaftSnapshot { // a young host has made no snapshot yet
			what = RaftLog
			err = r.Damage(h, what, seed)
		}
		r.hits(string(what), h)
		return err
	})
	if errors.Is(err, ErrRefused) { // it has seen the damage, and does not run with it
		return nil
	}
	return err
}

// whileOff does something to a host's files. They are not touched before every process of the host has ended.
func whileOff(ctx context.Context, r *Running, h string, do func() error) error {
	if err := r.PowerOff(h); err != nil {
		return err
	}
	return errors.Join(do(), r.Start(ctx, h))
}
