package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
)

// ErrLeaving refuses what would keep this host from maintenance.
var ErrLeaving = errors.New("this host goes to maintenance, or is there: it takes no new volumes and leases")

// leaving is this host's side of its way to maintenance: it lets nothing new begin, and then says what it still uses.
//
// The order makes the word good: from the moment that the host knows of the wish nothing is let in. What was let in before is waited
// for, and only then the leases are listed; so nothing can be missing from the list.
type leaving struct {
	look func(ctx context.Context) ([]string, error) // what is used
	all  sync.WaitGroup                              // looks

	mu      sync.Mutex // guards what follows
	told    manager.PingRequest
	inside  int             // let in, and not ended
	found   manager.HostUse // by the last look
	at      time.Time       // of that
	looking bool
}

// Times of looks at what is used.
const (
	useEvery   = 200 * time.Millisecond
	useTimeout = 5 * time.Second
)

// wish is what is wanted of this host, by the newer of its own mirror and what the leader has told it.
func (l *leaving) wish(view *fsm.State, name string) fsm.Wish {
	if view == nil || view.Index < l.told.Index {
		return fsm.Wish{Want: l.told.Want, Time: l.told.Since}
	}
	h, _ := view.Hosts.Get(name)
	return h.Wish
}

// admit lets something begin that will use the pool, and returns what must be called when it has ended, whatever came of it.
func (l *leaving) admit(view *fsm.State, name string) (done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.wish(view, name); w.Want == fsm.WishMaintenance {
		return nil, ErrLeaving
	}
	l.inside++
	return func() { l.mu.Lock(); defer l.mu.Unlock(); l.inside-- }, nil
}

// heed takes in what the leader says and answers what this host uses; nil: nothing is wanted, or it is not known yet.
func (l *leaving) heed(view *fsm.State, name string, req manager.PingRequest) *manager.HostUse {
	l.mu.Lock()
	defer l.mu.Unlock()
	if req.Index >= l.told.Index {
		l.told = req
	}
	w := l.wish(view, name)
	switch {
	case w.Want != fsm.WishMaintenance:
		return nil
	case l.inside > 0:
		return &manager.HostUse{Since: w.Time, Beginning: l.inside}
	}
	if !l.looking && time.Since(l.at) >= useEvery {
		l.looking = true
		l.all.Go(func() { l.lookNow(w.Time) })
	}
	if l.found.Since != w.Time || l.at.IsZero() {
		return nil
	}
	use := l.found
	use.Uses = slices.Clone(use.Uses)
	return &use
}

// lookNow looks once. It began after the host was closed to anything new, for the wish of that time.
func (l *leaving) lookNow(since int64) {
	ctx, cancel := context.WithTimeout(context.Background(), useTimeout)
	defer cancel()
	uses, err := l.look(ctx)
	if err != nil {
		uses = append(uses, fmt.Sprintf("what this host cannot tell: %v", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looking, l.found, l.at = false, manager.HostUse{Since: since, Uses: uses}, time.Now()
}

// Admit lets an operation begin that makes this host use a volume or a lease. The host is not in maintenance before done was called.
func (h *Host) Admit() (done func(), err error) {
	return h.leaving.admit(h.mirrored(), h.Name())
}

// mirrored is this host's mirror; nil while it is no member.
func (h *Host) mirrored() *fsm.State {
	if n := h.Node(); n != nil {
		return n.View()
	}
	return nil
}

// heed takes in what the manager wants of this host.
func (h *Host) heed(req manager.PingRequest) *manager.HostUse {
	return h.leaving.heed(h.mirrored(), h.Name(), req)
}

// uses names what this host uses: attached volumes, and leases that are held for others than the SPM role.
func (h *Host) uses(ctx context.Context) ([]string, error) {
	view := h.mirrored()
	if view == nil {
		return nil, nil
	}
	out := h.attachedTo(view)
	rt := h.runtime()
	if rt == nil {
		return out, nil // what it held is gone with its keeper, or is attached
	}
	attached := len(out) > 0
	var errs error
	for _, id := range (lockspaces{rt}).Joined() {
		held, err := rt.keeper.Held(ctx, id)
		errs = errors.Join(errs, err)
		for _, l := range held {
			v, volume := view.Volume(id, l.Name)
			switch {
			case l.Name == spmName: // the SPM role: the manager knows
			case volume && attached: // named already, or the base of one that is
			case volume:
				out = append(out, fmt.Sprintf("the lease of volume %s (%s)", v.Name, v.ID))
			case l.Holder != "":
				out = append(out, fmt.Sprintf("lease %s, held for %s", l.Name, l.Holder))
			default:
				out = append(out, "lease "+l.Name)
			}
		}
	}
	return out, errs
}

// attachedTo names the volumes that are attached on this host, without those that they are based on.
func (h *Host) attachedTo(view *fsm.State) []string {
	if h.cfg.Users == nil {
		return nil
	}
	var out []string
	for id := range view.Domains.All() {
		used := h.cfg.Users.UsedOn(id)
		bases := map[string]bool{}
		for _, vol := range used {
			if v, ok := view.Volume(id, vol); ok {
				bases[v.Parent] = true
			}
		}
		for _, vol := range used {
			if v, _ := view.Volume(id, vol); !bases[vol] {
				out = append(out, strings.TrimSpace("attached volume "+v.Name+" ("+vol+")"))
			}
		}
	}
	slices.Sort(out)
	return out
}
