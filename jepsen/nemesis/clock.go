package nemesis

import (
	"context"
	"fmt"
	"time"
)

// maxDrift is what a clock may be wrong by, in parts in a million: ten times what a bad quartz is.
const maxDrift = 2000

func clocks() []Nemesis {
	kind := func(name, does string, inject func(context.Context, *Running) error) Nemesis {
		return Nemesis{Name: name, Does: does, Needs: []Ability{HasClock}, Takes: []Resource{OfClock}, Lasts: seconds, inject: inject}
	}
	return []Nemesis{
		kind("clock.jump", "makes a host's clock jump forward by seconds, an hour or a day, as when it wakes from a suspend", jump),
		kind("clock.drift", "lets a host's clocks run too fast or too slow", drift),
	}
}

func jump(_ context.Context, r *Running) error {
	off := one(r, time.Second, 10*time.Second, time.Hour, 24*time.Hour)
	return r.setClock(fmt.Sprintf("by %s", off), off, 0)
}

func drift(_ context.Context, r *Running) error {
	ppm := (100 + r.rand.Int64N(maxDrift-100)) * one[int64](r, 1, -1)
	return r.setClock(fmt.Sprintf("%+d ppm", ppm), 0, ppm)
}

func (r *Running) setClock(detail string, offset time.Duration, ppm int64) error {
	h := r.host()
	r.hits(detail, h)
	r.onHeal(func(context.Context) error { return r.SetClock(h, 0, 0) })
	return r.SetClock(h, offset, ppm)
}
