package manager

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
)

// askPower asks the power devices of a host that does not answer. It changes nothing there. A local group is asked at once, each
// time; others, which may take long to log in to, now and then and beside the pings.
func (t *term) askPower(ctx context.Context, s *sighting) bool {
	groups := t.m.cfg.Power.Groups(t.m.cfg.Cluster.View(), s.name)
	if len(groups) == 0 {
		return false
	}
	if len(groups) == 1 && groups[0].Local {
		return t.askGroups(ctx, s, groups, t.m.cfg.PingTimeout)
	}
	t.mu.Lock()
	due := t.m.cfg.Now().Sub(s.powerTry) >= t.m.cfg.PowerEvery
	if due {
		s.powerTry = t.m.cfg.Now()
	}
	t.mu.Unlock()
	if due {
		t.once("power of "+s.name, func(ctx context.Context) { t.askGroups(ctx, s, groups, t.m.cfg.StatusTimeout) })
	}
	return false
}

// askGroups takes the first clear answer. It is asked through this host: what follows from it is confirmed through others.
func (t *term) askGroups(ctx context.Context, s *sighting, groups []Group, bound time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	power := PowerUnknown
	for _, g := range groups {
		rep, err := t.m.proxy.Power(ctx, PowerRequest{Host: s.name, Order: g.Order, Action: fencing.ActionStatus})
		if err == nil && (rep.State == fencing.On || rep.State == fencing.Off) {
			power = Power(rep.State)
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.power == power || s.reachable || ctx.Err() != nil && power == PowerUnknown && s.power != PowerOff {
		return false
	}
	s.power, s.powerAt = power, t.m.cfg.Now()
	return true
}
