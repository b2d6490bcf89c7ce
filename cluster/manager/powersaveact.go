package manager

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// powerHealth is what was found out about a host's power devices. term.mu guards it.
type powerHealth struct {
	at time.Time
	ok bool // off and on would work
}

// healthFor is how long that is believed.
const healthFor = 10 * time.Minute

// keySave is the key of what the power-saving policy does: one action at a time.
const keySave = "powersave"

// savePower does one thing that the power-saving policy asks for. Nothing while the role is not settled.
func (t *term) savePower(view *fsm.State, in Inputs, d Decision) {
	p := PowersaveOf(view)
	if d.Row != RowAdopt || in.DisarmedFor > 0 || !p.Enabled && !taken(view) {
		return
	}
	s := DecideSave(p, t.saveHosts(view, in))
	h, ok := view.Hosts.Get(s.Host)
	if s.Action == SaveNothing || !ok {
		return
	}
	t.once(keySave, func(ctx context.Context) {
		if err := t.save(ctx, h, s); err != nil {
			t.complain(ctx, fsm.Event{Severity: fsm.Warning, Kind: "powersave.failed", Host: h.Name, Reason: s.Reason, Evidence: err.Error(),
				Message: fmt.Sprintf("saving power with %s (%s): %v", h.Name, s.Action, err)})
			pause(ctx, in.Policy.Grace)
		}
	})
}

// taken tells whether the policy has a host out of use.
func taken(view *fsm.State) bool {
	for _, h := range view.Hosts.All() {
		if h.Wish.Want != "" && h.Wish.By == fsm.WishByPolicy {
			return true
		}
	}
	return false
}

// saveHosts makes what DecideSave looks at.
func (t *term) saveHosts(view *fsm.State, in Inputs) []SaveHost {
	var voters []string
	if t.m.cfg.Voters != nil {
		voters = t.m.cfg.Voters()
	}
	now := t.m.cfg.Now()
	_, on := lastFences(view)
	var out []SaveHost
	for i := range in.Hosts {
		f := &in.Hosts[i]
		h, _ := view.Hosts.Get(f.Name)
		s := SaveHost{Name: f.Name, State: h.CurrentState(), Wish: h.Wish, Wished: since(now, h.Wish.Time), Reachable: f.Reachable, Power: f.Power,
			Voter: t.m.cfg.Voters == nil || slices.Contains(voters, f.Name), Kept: t.kept(f, &in)}
		_, s.Acting = view.OpenFence(f.Name)
		s.Recent = f.FenceIn > 0 || on[f.Name].Began > 0 && since(now, on[f.Name].Began) < in.Policy.FenceQuiet
		t.mu.Lock()
		if g := t.hosts[f.Name]; g != nil {
			if !g.emptySince.IsZero() && f.Reachable {
				s.Empty = max(now.Sub(g.emptySince), 1)
			}
			s.HealthKnown, s.Healthy = !g.health.at.IsZero() && now.Sub(g.health.at) < healthFor, g.health.ok
		}
		t.mu.Unlock()
		out = append(out, s)
	}
	return out
}

// kept says why a host is never taken; empty: it may be.
func (t *term) kept(f *Host, in *Inputs) string {
	switch {
	case f.Name == t.m.cfg.Host:
		return "it leads"
	case hasRole(in, f):
		return "it has the SPM role"
	case !f.Fenceable:
		return "it has no power device"
	}
	return ""
}

// save carries one action out.
func (t *term) save(ctx context.Context, h fsm.Host, s Saved) error {
	switch s.Action {
	case SaveLook:
		return t.lookAtPower(ctx, h.Name)
	case SaveMaintain:
		return t.saveWish(ctx, h, fsm.WishMaintenance, s.Reason)
	case SaveActivate:
		return t.saveWish(ctx, h, "", s.Reason)
	case SaveOff:
		return t.saveOff(ctx, h, s.Reason)
	case SaveOn:
		t.once(keyFence(h.Name), func(ctx context.Context) { t.switchOn(ctx, h, s.Reason, fsm.WishByPolicy, false) })
	case SaveNothing:
	}
	return nil
}

// lookAtPower finds out whether a host's power devices work, by the host that would act.
func (t *term) lookAtPower(ctx context.Context, host string) error {
	s, err := t.powerScene(host)
	if err == nil && len(s.Groups[0].Proxies) == 0 {
		err = fmt.Errorf("no host could act as a proxy for %s", host)
	}
	if err != nil {
		return err
	}
	h, err := t.health(ctx, s.Groups[0].Proxies[0], host)
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.hosts[host]; g != nil {
		g.health = powerHealth{t.m.cfg.Now(), err == nil && h.Off && h.On}
	}
	return err
}

// saveWish commits what the policy wants of a host.
func (t *term) saveWish(ctx context.Context, h fsm.Host, want, reason string) error {
	kind := "powersave.activated"
	if want != "" {
		kind = "powersave.maintenance"
	}
	expect := h.Wish.Want
	_, err := t.wish(ctx, &fsm.HostWish{Host: h.Name, Want: want, Expect: &expect, By: fsm.WishByPolicy, Reason: reason}, kind)
	return err
}

// saveOff begins to switch off a host that is in maintenance by the policy. It answers, and is switched off all the same.
func (t *term) saveOff(ctx context.Context, h fsm.Host, reason string) error {
	t.mu.Lock()
	busy := t.busy[keyFence(h.Name)]
	generation := max(h.Generation, t.disk.generation(h.HostID))
	t.mu.Unlock()
	if busy {
		return nil
	}
	_, err := t.beginFence(ctx, fsm.FenceOp{Host: h.Name, HostID: h.HostID, Generation: generation, Action: fsm.FenceOff, Reason: reason,
		By: fsm.WishByPolicy, Steps: []fsm.FenceStep{{Rung: RungPerson, Result: fsm.StepOK, Time: t.m.cfg.Now().UnixNano(),
			Evidence: "the power-saving policy has it in maintenance"}}})
	return err
}
