package main

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/http/api"
)

// Fencing says how silent hosts are fenced.
func (b *backend) Fencing(context.Context) (api.Fencing, error) {
	st, _, err := b.pool()
	if err != nil {
		return api.Fencing{}, err
	}
	p := b.host.FencePolicy(st)
	out := api.Fencing{Enabled: p.Fencing, GraceSeconds: p.Grace.Seconds(), QuietSeconds: p.FenceQuiet.Seconds(), SkipIfLive: p.SkipIfLive,
		SkipIfHalfDead: p.SkipIfHalfDead, Restart: p.RestartAfterOff, Armed: true, Open: []api.FenceOp{}}
	if p.DisarmedUntil.After(time.Now()) {
		out.Armed, out.DisarmedUntil, out.DisarmedBy = false, p.DisarmedUntil.UTC(), p.DisarmedBy
	}
	for _, op := range st.OpenFences() {
		out.Open = append(out.Open, apiFenceOp(op))
	}
	return out, nil
}

// changed carries a change of the fencing policies out and shows what they are then.
func (b *backend) changed(ctx context.Context, change func(manager.Settings) error) (api.Fencing, error) {
	set, _, err := b.settings()
	if err != nil {
		return api.Fencing{}, err
	}
	if err := change(set); err != nil {
		return api.Fencing{}, apiError(err)
	}
	n, err := b.node()
	if err != nil {
		return api.Fencing{}, err
	}
	if err := n.Barrier(ctx); err != nil { // this host's mirror may be a commit behind
		return api.Fencing{}, apiError(err)
	}
	return b.Fencing(ctx)
}

// SetFencing changes how silent hosts are fenced.
func (b *backend) SetFencing(ctx context.Context, r api.FencingSet, by string) (api.Fencing, error) {
	return b.changed(ctx, func(s manager.Settings) error {
		return s.Fencing(ctx, by, manager.FenceSettings{Enabled: r.Enabled, SkipIfLive: r.SkipIfLive, SkipIfHalfDead: r.SkipIfHalfDead, Restart: r.Restart,
			Grace: durationOf(r.GraceSeconds), Quiet: durationOf(r.QuietSeconds)})
	})
}

func durationOf(v *float64) *time.Duration {
	if v == nil {
		return nil
	}
	d := time.Duration(*v * float64(time.Second))
	return &d
}

// DisarmFencing forbids fencing without a person for a while.
func (b *backend) DisarmFencing(ctx context.Context, r api.FencingDisarm, by string) (api.Fencing, error) {
	return b.changed(ctx, func(s manager.Settings) error {
		_, err := s.Disarm(ctx, by, r.Reason, *durationOf(&r.ForSeconds))
		return err
	})
}

// ArmFencing takes that back.
func (b *backend) ArmFencing(ctx context.Context, by string) (api.Fencing, error) {
	return b.changed(ctx, func(s manager.Settings) error { return s.Arm(ctx, by) })
}

// FenceHistory lists operations on the power of hosts, the newest first.
func (b *backend) FenceHistory(_ context.Context, host string, limit int) ([]api.FenceOp, error) {
	st, err := b.state()
	if err != nil {
		return nil, err
	}
	if host != "" {
		if err := knownHostName(st, host); err != nil {
			return nil, err
		}
	}
	out := []api.FenceOp{}
	for _, op := range slices.Backward(st.Fences.Values()) {
		if len(out) < limit && (host == "" || op.Host == host) {
			out = append(out, apiFenceOp(op))
		}
	}
	return out, nil
}

// Powersave is the policy that switches spare hosts off.
func (b *backend) Powersave(context.Context) (api.Powersave, error) {
	st, err := b.state()
	if err != nil {
		return api.Powersave{}, err
	}
	p := manager.PowersaveOf(st)
	return api.Powersave{Enabled: p.Enabled, Reserve: p.Reserve, IdleSeconds: p.Idle.Seconds()}, nil
}

// SetPowersave changes it.
func (b *backend) SetPowersave(ctx context.Context, r api.PowersaveSet, by string) (api.Powersave, error) {
	set, _, err := b.settings()
	if err != nil {
		return api.Powersave{}, err
	}
	err = set.Powersave(ctx, by, manager.PowersaveSettings{Enabled: r.Enabled, Reserve: r.Reserve, Idle: durationOf(r.IdleSeconds)})
	if err != nil {
		return api.Powersave{}, apiError(err)
	}
	n, err := b.node()
	if err != nil {
		return api.Powersave{}, err
	}
	if err := n.Barrier(ctx); err != nil {
		return api.Powersave{}, apiError(err)
	}
	return b.Powersave(ctx)
}
