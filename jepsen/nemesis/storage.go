package nemesis

import (
	"context"
	"fmt"
	"time"
)

func storage() []Nemesis {
	kind := func(name, does string, inject func(context.Context, *Running) error) Nemesis {
		return Nemesis{Name: name, Does: does, Needs: []Ability{HasLUN}, Takes: []Resource{OfPath}, Lasts: aroundDeath, inject: inject}
	}
	unplugged := kind("path.unplug", "pulls a host's cable to the LUN: packets vanish and nobody says so", storageUnplug)
	unplugged.Needs = []Ability{HasLUN, HasNetwork}
	stuck := kind("path.stick", "single requests of a host hang while the others pass; later they land, late, or never", pathStick)
	stuck.Lasts = landing
	gone := kind("lun.gone", "takes the LUN away for all, and gives it back", lunGone)
	gone.Reach = All
	return []Nemesis{
		kind("path.cut", "ends a host's connections to the LUN and refuses new ones", pathCut),
		unplugged,
		kind("path.slow", "makes a host's LUN slower and slower, up to twice the I/O timeout", pathSlow),
		kind("path.hang", "a host's I/O does not return; later it lands, late, or never", pathHang),
		stuck,
		kind("path.eio-read", "reads of a host fail with EIO, all or some", pathEIO(true)),
		kind("path.eio-write", "writes of a host fail with EIO, all or some; some land all the same", pathEIO(false)),
		gone,
	}
}

// path is the way of the host to hit; all that is wrong with it is put right by the heal.
func (r *Running) path() Path {
	p := r.LUN().Path(r.host())
	r.onHeal(func(context.Context) error { p.Heal(); return nil })
	return p
}

func pathCut(_ context.Context, r *Running) error {
	r.hits("", r.host())
	p := r.path()
	r.onHeal(func(context.Context) error { p.Join(); return nil })
	p.Cut()
	return nil
}

func storageUnplug(_ context.Context, r *Running) error {
	h := r.host()
	r.hits("", h)
	r.onHeal(func(context.Context) error { return r.PlugStorage(h) })
	return r.UnplugStorage(h)
}

func pathSlow(_ context.Context, r *Running) error {
	n := r.bounds.IOTimeout
	from, to := r.between(time.Millisecond, n/20), r.between(n/10, 2*n)
	over := r.between(r.lasts/4, r.lasts)
	r.hits(fmt.Sprintf("%s to %s over %s", round(from), round(to), round(over)), r.host())
	p := r.path()
	r.onHeal(func(context.Context) error { p.Fast(); return nil })
	p.Slow(from, to, over)
	return nil
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

func pathHang(_ context.Context, r *Running) error {
	land := r.rand.IntN(4) > 0 // a late write is what hurts
	r.hits(map[bool]string{true: "lands late", false: "never lands"}[land], r.host())
	p := r.path()
	r.onHeal(func(context.Context) error { p.Release(land); return nil })
	p.Hang()
	return nil
}

func pathStick(_ context.Context, r *Running) error {
	n, land := one(r, 3, 10, 30), r.rand.IntN(4) > 0
	r.hits(fmt.Sprintf("one in %d, %s", n, map[bool]string{true: "lands late", false: "never lands"}[land]), r.host())
	p := r.path()
	r.onHeal(func(context.Context) error { p.Release(land); return nil })
	p.Stick(n)
	return nil
}

func pathEIO(reads bool) func(context.Context, *Running) error {
	return func(_ context.Context, r *Running) error {
		n := one(r, 1, 2, 5, 20)
		r.hits(fmt.Sprintf("one in %d", n), r.host())
		p := r.path()
		if reads {
			p.FailReads(n)
		} else {
			p.FailWrites(n)
		}
		return nil
	}
}

func lunGone(_ context.Context, r *Running) error {
	r.hits("", r.Hosts()...)
	l := r.LUN()
	r.onHeal(func(context.Context) error { l.Gone(false); return nil })
	l.Gone(true)
	return nil
}
