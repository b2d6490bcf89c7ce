package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// HostUse is what a host uses of the pool, said after it has begun to refuse anything new.
type HostUse struct {
	// Since is the time of the wish that the host heeds.
	Since int64 `json:"since"`
	// Uses names attached volumes and leases that are held.
	Uses []string `json:"uses,omitempty"`
	// Beginning counts what was let in before and has not got far enough to be among them.
	Beginning int `json:"beginning,omitempty"`
}

// maxBlocks bounds what is named.
const maxBlocks = 16

// blocks is what keeps the host from maintenance, for people.
func (u *HostUse) blocks() []string {
	out := append([]string(nil), u.Uses...)
	if n := len(out); n > maxBlocks {
		out = append(out[:maxBlocks], fmt.Sprintf("%d more", n-maxBlocks))
	}
	if u.Beginning > 0 {
		out = append(out, fmt.Sprintf("%d operations that were under way", u.Beginning))
	}
	return out
}

// leaving tells whether a host is to be in maintenance and is not there yet.
func leaving(h fsm.Host) bool {
	return h.State != fsm.HostMaintenance && h.Wish.Want == fsm.WishMaintenance
}

// pingRequest is what a host is told with each ping.
func (t *term) pingRequest(host string) PingRequest {
	view := t.m.cfg.Cluster.View()
	h, _ := view.Hosts.Get(host)
	return PingRequest{Want: h.Wish.Want, Since: h.Wish.Time, Index: view.Index}
}

// ErrHasRole says that a host cannot be taken out of use by force while it has the SPM role and answers.
var ErrHasRole = errors.New("the host has the SPM role and answers; the role has to move first (holdfast spm move)")

// MaintenanceRequest wants a host out of use.
type MaintenanceRequest struct {
	Host   string
	By     string
	Reason string
	// Force takes the word of By that nothing uses the host, whatever it says or does not say.
	Force bool
	Wait  time.Duration
}

// ActivateRequest wants a host back in use.
type ActivateRequest struct {
	Host   string
	By     string
	Reason string
	Wait   time.Duration
}

// Maintain commits that a host is to go to maintenance, and waits until it is there or the time is over. It works on the leader. The host
// that is returned says by its state and reason how far it got, and what it waits for.
func (m *Manager) Maintain(ctx context.Context, r MaintenanceRequest) (fsm.Host, error) {
	var index uint64
	err := m.inTerm(ctx, func(t *term) (err error) {
		index, err = t.maintain(ctx, r)
		return err
	})
	if err != nil {
		return fsm.Host{}, err
	}
	return m.awaitHost(ctx, r.Host, index, r.Wait, func(h fsm.Host) bool { return h.State == fsm.HostMaintenance || h.Wish.Want == "" })
}

// Activate takes that back, and waits until the host is up, or surely is not, or the time is over.
func (m *Manager) Activate(ctx context.Context, r ActivateRequest) (fsm.Host, error) {
	var index uint64
	err := m.inTerm(ctx, func(t *term) (err error) {
		if h, ok := t.m.cfg.Cluster.View().Hosts.Get(r.Host); ok && h.Wish.Want == "" {
			return nil // nobody wants it anywhere else
		}
		index, err = t.wish(ctx, &fsm.HostWish{Host: r.Host, By: r.By, Reason: r.Reason}, "host.activated")
		return err
	})
	if err != nil {
		return fsm.Host{}, err
	}
	return m.awaitHost(ctx, r.Host, index, r.Wait, func(h fsm.Host) bool {
		switch h.CurrentState() {
		case fsm.HostMaintenance, fsm.HostPreparing, fsm.HostConnecting, fsm.HostJoining, fsm.HostRebooting, fsm.HostFencing:
			return h.Wish.Want != ""
		}
		return true
	})
}

// maintain commits the wish, and with force the state.
func (t *term) maintain(ctx context.Context, r MaintenanceRequest) (uint64, error) {
	if r.Force && t.servesNow(ctx, r.Host) {
		return 0, fmt.Errorf("host %s: %w", r.Host, ErrHasRole)
	}
	h, _ := t.m.cfg.Cluster.View().Hosts.Get(r.Host)
	var index uint64
	if h.Wish.Want != fsm.WishMaintenance || h.Wish.By == fsm.WishByPolicy {
		i, err := t.wish(ctx, &fsm.HostWish{Host: r.Host, Want: fsm.WishMaintenance, By: r.By, Reason: r.Reason}, "host.maintenance_wanted")
		if err != nil {
			return 0, err
		}
		index = i
	}
	if err := t.forgetRoleWish(ctx, r.Host); err != nil {
		return 0, err
	}
	if !r.Force || h.State == fsm.HostMaintenance {
		return index, nil
	}
	reason := "forced by " + r.By + ", who says that nothing uses it"
	if r.Reason != "" {
		reason += ": " + r.Reason
	}
	if err := t.hostState(ctx, r.Host, fsm.HostMaintenance, reason); err != nil {
		return 0, fmt.Errorf("recording the maintenance of host %s: %w", r.Host, err)
	}
	return index, t.record(ctx, fsm.Event{Severity: fsm.Warning, Kind: "host." + fsm.HostMaintenance, Host: r.Host, Reason: reason, Evidence: "the word of " + r.By,
		Message: fmt.Sprintf("host %s is in maintenance, %s", r.Host, reason)})
}

// servesNow asks a host whether it is in the role; one that does not answer is not.
func (t *term) servesNow(ctx context.Context, host string) bool {
	var rep PingReply
	err := t.call(ctx, t.m.cfg.PingTimeout, host, MethodPing, t.pingRequest(host), &rep)
	return err == nil && rep.Role.State != RoleNone && rep.Role.State != ""
}

// wish commits what is wanted of a host, with an event that says who wants it.
func (t *term) wish(ctx context.Context, w *fsm.HostWish, kind string) (uint64, error) {
	w.Time = t.m.cfg.Now().UnixNano()
	out, err := t.m.cfg.Cluster.Apply(ctx, w)
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("committing what is wanted of host %s: %w", w.Host, err)
	}
	want := "up again"
	if w.Want != "" {
		want = "in " + w.Want
	}
	message := fmt.Sprintf("%s wants %s %s", w.By, w.Host, want)
	if w.Reason != "" {
		message += ": " + w.Reason
	}
	t.stale()
	return out.Index, t.record(ctx, fsm.Event{Severity: fsm.Info, Kind: kind, Host: w.Host, Message: message, Reason: w.Reason})
}

// forgetRoleWish takes an operator's wish back that the role be on a host that goes out of use.
func (t *term) forgetRoleWish(ctx context.Context, host string) error {
	pool, ok := t.m.cfg.Cluster.View().Pool()
	if to, is := pool.SPM.DesiredHost(); !ok || !is || to != host {
		return nil
	}
	err := t.command(ctx, &fsm.SPMDesire{Pool: pool.ID, Desired: fsm.DesireAny, Expect: pool.SPM.Desired, Time: t.m.cfg.Now().UnixNano()})
	if errors.Is(err, fsm.ErrConflict) {
		return nil // something else is wished already
	}
	return err
}

// awaitHost waits until the mirror shows of a host what was asked for at index. When the time is over first, the host as it is then
// is the answer: the wish stays.
func (m *Manager) awaitHost(ctx context.Context, name string, index uint64, wait time.Duration, done func(fsm.Host) bool) (fsm.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		changed := m.cfg.Cluster.Changed()
		view := m.cfg.Cluster.View()
		h, ok := view.Hosts.Get(name)
		switch {
		case view.Index >= index && !ok:
			return h, &fsm.RefusedError{Code: fsm.CodeNotFound, Message: "no host named " + name}
		case view.Index >= index && done(h):
			return h, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return h, nil
		}
	}
}

// SetPriority changes a host's SPM priority. It works on the leader.
func (m *Manager) SetPriority(ctx context.Context, host string, priority int, by string) (fsm.Host, error) {
	if err := fsm.CheckPriority(priority); err != nil {
		return fsm.Host{}, err
	}
	err := m.inTerm(ctx, func(t *term) error {
		if err := t.command(ctx, &fsm.HostUpdate{Name: host, Priority: &priority, Time: t.m.cfg.Now().UnixNano()}); err != nil {
			return fmt.Errorf("setting the SPM priority of host %s: %w", host, err)
		}
		return t.record(ctx, fsm.Event{Severity: fsm.Info, Kind: "host.priority", Host: host, Message: fmt.Sprintf("%s sets the SPM priority of %s to %d", by, host, priority)})
	})
	h, _ := m.cfg.Cluster.View().Hosts.Get(host)
	return h, err
}
