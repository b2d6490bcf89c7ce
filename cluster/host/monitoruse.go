package host

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// domainUse is what this host does with a domain.
type domainUse struct {
	open     bool     // its LUNs are open for work, or being opened
	acquired bool     // our host id is held in its lockspace
	late     bool     // half of the life of that has passed without a renewal
	uses     []string // what keeps us from letting go of it
	err      error    // why it is not open
}

// because says why the host id is not held, as far as it is known.
func (u domainUse) because() string {
	if u.err == nil {
		return ""
	}
	return ": " + u.err.Error()
}

// useOf says what this host does with a domain, whether its storage is up or not.
func (h *Host) useOf(ctx context.Context, id string) domainUse {
	rt := h.runtime()
	if rt == nil {
		return domainUse{uses: h.usersOf(id), err: ErrNoStorage}
	}
	u := rt.useOf(ctx, id)
	for _, user := range h.usersOf(id) {
		if !slices.ContainsFunc(u.uses, func(s string) bool { return strings.Contains(s, user) }) {
			u.uses = append(u.uses, "attached volume "+user)
		}
	}
	return u
}

// usersOf are the attached volumes of a domain.
func (h *Host) usersOf(id string) []string {
	if h.cfg.Users == nil {
		return nil
	}
	return h.cfg.Users.UsedOn(id)
}

func (rt *runtime) useOf(ctx context.Context, id string) domainUse {
	var u domainUse
	rt.mu.Lock()
	l := rt.domains[id]
	u.open = l != nil
	if st := rt.opening[id]; st != nil {
		u.open, u.err = u.open || st.busy, st.err
	}
	rt.mu.Unlock()
	if l == nil {
		return u
	}
	u.acquired = l.guard.Check(0) == nil
	u.late = u.acquired && l.guard.Check(halfLife(rt.profile)) != nil
	held, err := rt.keeper.Held(ctx, id)
	if err != nil && u.acquired {
		u.uses = append(u.uses, "the lease keeper does not say what is held: "+err.Error())
	}
	for _, h := range held {
		u.uses = append(u.uses, rt.describeHeld(id, h.Name, h.Holder))
	}
	return u
}

// halfLife is how long a lease must still be good for when half of its life has passed since its last renewal.
func halfLife(p leases.Profile) time.Duration { return p.Expiry()/2 - p.Margin() }

// describeHeld names a lease that is held, for people.
func (rt *runtime) describeHeld(domainID, name, holder string) string {
	what := "lease " + name
	if v, ok := rt.node.View().Volume(domainID, name); ok {
		what = fmt.Sprintf("lease of volume %s (%s)", v.Name, name)
	}
	if holder != "" {
		what += " held for " + holder
	}
	return what
}

// wanted says whether this host is to have a domain open: not one that is in maintenance, or about to be.
func wanted(d fsm.Domain) bool {
	return d.Status != fsm.DomainPreparing && d.Status != fsm.DomainMaintenance
}

// letGo leaves the lockspace of a domain that is not wanted any more and closes its LUNs, if nothing on this host uses it.
func (rt *runtime) letGo(ctx context.Context, l *luns) error {
	ctx, cancel := context.WithTimeout(ctx, 4*rt.profile.IOTimeout)
	defer cancel()
	if users := rt.usersOf(l.id); len(users) > 0 {
		return fmt.Errorf("domain %s is to be let go of, but volumes are attached: %s", l.name, strings.Join(users, ", "))
	}
	if n := l.allPending(); n > 0 || l.growing() {
		return fmt.Errorf("domain %s is to be let go of, but %d device calls have not come back", l.name, n)
	}
	if err := rt.keeper.LeaveIdle(ctx, l.id); err != nil {
		return err
	}
	rt.log.Info("let go of a domain", "domain", l.id)
	rt.mu.Lock()
	delete(rt.domains, l.id)
	rt.mu.Unlock()
	return l.close()
}

func (rt *runtime) usersOf(id string) []string {
	if rt.cfg.Users == nil {
		return nil
	}
	return rt.cfg.Users.UsedOn(id)
}

// wake has a domain opened now that is waiting to be tried again.
func (rt *runtime) wake(id string) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if st := rt.opening[id]; st != nil && !st.busy && st.err != nil {
		st.retryAt = time.Time{}
		rt.announce()
	}
}

// edgeTimeout bounds the word to the leader that something changed here; it pings us anyway.
const edgeTimeout = 2 * time.Second

// domainEdge tells the leader at once that a domain became valid or invalid here. One that can be read again is opened again.
func (h *Host) domainEdge(ctx context.Context, id string, valid bool) {
	if rt := h.runtime(); rt != nil {
		rt.wake(id)
	}
	node := h.Node()
	if node == nil {
		return
	}
	leader, ok := node.Leader()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, edgeTimeout)
	defer cancel()
	if err := node.Call(ctx, leader, manager.MethodEdge, struct{}{}, nil); err != nil {
		h.cfg.Log.Debug("telling the leader about a domain", "domain", id, "valid", valid, "err", err)
	}
}

// answerEdge is the leader's side: whoever says that something changed is asked at once.
func (h *Host) answerEdge(_ context.Context, from string, _ []byte) (any, error) {
	if m := h.Manager(); m != nil {
		m.AskHost(from)
	}
	return struct{}{}, nil
}

// answerReopen looks at a domain again at once, by paths that are opened anew.
func (h *Host) answerReopen(_ context.Context, _ string, body []byte) (any, error) {
	var req manager.ReopenRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decoding the request: %w: %w", fsm.ErrInvalid, err)
	}
	h.monitors.poke(req.Domain)
	if rt := h.runtime(); rt != nil {
		rt.wake(req.Domain)
	}
	return struct{}{}, nil
}

// profile is that of the pool; it is never changed.
func (h *Host) profile() (leases.Profile, error) {
	node := h.Node()
	if node == nil {
		return leases.Profile{}, cluster.ErrNotMember
	}
	pool, _ := node.View().Pool()
	return leases.ProfileByName(pool.Profile)
}

// DomainWatches is what this host's monitors have measured.
func (h *Host) DomainWatches() []DomainWatch { return h.monitors.watches() }
