package manager

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// census is what every host says, or what storage says about it, for a master that is to be given up.
type census struct {
	t        *term
	master   string
	answers  map[string]PingReply
	refusals map[string]error // of hosts that answer and did not give their word
	silent   []fsm.Host
	promised []string
	seen     map[int]sights // records of the silent hosts, and one's own, by host id
	spaces   map[string]bool
	proofs   []fsm.Proof
}

// census pings all hosts at the same time, and lets those that answer read about all of them.
func (t *term) census(ctx context.Context, view *fsm.State, pool fsm.Pool) *census {
	c := &census{t: t, master: pool.Master, answers: map[string]PingReply{}, refusals: map[string]error{}, seen: map[int]sights{}, spaces: map[string]bool{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, h := range view.Hosts.All() {
		wg.Go(func() {
			var rep PingReply
			err := t.call(ctx, t.m.cfg.PingTimeout, h.Name, MethodPing, struct{}{}, &rep)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				c.silent = append(c.silent, h)
				return
			}
			c.answers[h.Name] = rep
		})
	}
	wg.Wait()
	slices.SortFunc(c.silent, func(a, b fsm.Host) int { return strings.Compare(a.Name, b.Name) })
	c.look(ctx, view)
	return c
}

// promises asks all hosts that answer for their word. It keeps them from the role under the old master for a while, so it comes when
// nothing else speaks against giving that up.
func (c *census) promises(ctx context.Context) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name := range c.answers {
		wg.Go(func() {
			err := c.retire(ctx, name, wordFor)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				c.refusals[name] = err
				return
			}
			c.promised = append(c.promised, name)
		})
	}
	wg.Wait()
	slices.Sort(c.promised)
}

func (c *census) retire(ctx context.Context, host string, d time.Duration) error {
	var word spm.RetireReply
	return c.t.call(ctx, c.t.m.cfg.Policy.StopTimeout, host, spm.MethodRetire, spm.RetireRequest{Master: c.master, For: d}, &word)
}

// giveBack tells the hosts that their word is not needed: the old master stays, and may come back any moment.
func (c *census) giveBack() {
	for _, name := range c.promised {
		c.t.wg.Go(func() { c.t.report(c.retire(c.t.ctx, name, 0), "giving "+name+" its word back") })
	}
}

// look reads the records of all hosts in all lockspaces that hosts which answer have joined.
func (c *census) look(ctx context.Context, view *fsm.State) {
	var ids []int
	for _, h := range view.Hosts.All() {
		ids = append(ids, h.HostID)
	}
	ctx, cancel := context.WithTimeout(ctx, c.t.m.cfg.InspectTimeout)
	defer cancel()
	ch := make(chan []SpaceSight, len(c.answers))
	for name := range c.answers {
		c.t.wg.Go(func() {
			var rep SightReply
			c.t.report(c.t.m.cfg.Cluster.Call(ctx, name, MethodSight, SightRequest{HostIDs: ids, Disk: true, Unused: true}, &rep), "reading all lockspaces through "+name)
			ch <- rep.Seen
		})
	}
	for range c.answers {
		for _, s := range <-ch {
			id := s.Record.HostID
			if c.seen[id] == nil {
				c.seen[id] = sights{}
			}
			c.seen[id].newest([]SpaceSight{s})
			c.spaces[s.Lockspace] = true
		}
	}
}

// allows refuses what is not a matter of proofs.
func (c *census) allows(pool fsm.Pool, r Reconstruction) error {
	for name, rep := range c.answers {
		if rep.Role.State == spm.StateServing || rep.Role.State == spm.StateStarting {
			return fmt.Errorf("%s is %s as SPM; use domain set-master without --reconstruct: %w", name, rep.Role.State, ErrMasterReadable)
		}
		if rep.MasterValid && c.t.ofMaster(rep.Master) && pool.Master != r.Domain {
			return fmt.Errorf("host %s reads its lease; use domain set-master without --reconstruct: %w", name, ErrMasterReadable)
		}
	}
	if pool.Master == r.Domain && !r.Force {
		return fmt.Errorf("the domain is the pool's master; --force says that it is to go on as that whatever a change of the master that was cut short left on another one: %w", fsm.ErrConflict)
	}
	if !c.spaces[r.Domain] {
		return fmt.Errorf("domain %s: %w; see domain show and its LUNs", r.Domain, ErrNewMasterUnread)
	}
	return nil
}

// judge finds a proof for every host that did not give its word, or lists those without.
func (c *census) judge(r Reconstruction) error {
	var e UnprovenError
	for name, err := range c.refusals {
		e.Obstacles = append(e.Obstacles, Obstacle{Host: name, Answers: true, Why: "it answers and did not give its word: " + err.Error(),
			Help: "stop its agent, or fence it"})
	}
	for _, h := range c.silent {
		p, o := c.prove(h, r)
		switch {
		case o != nil:
			e.Obstacles = append(e.Obstacles, *o)
		case p.Kind != "":
			c.proofs = append(c.proofs, p)
		}
	}
	if len(e.Obstacles) == 0 {
		return nil
	}
	slices.SortFunc(e.Obstacles, func(a, b Obstacle) int { return strings.Compare(a.Host, b.Host) })
	return &e
}

// prove makes the proof about a host that does not answer. A zero proof: there is one already, or none is needed.
func (c *census) prove(h fsm.Host, r Reconstruction) (fsm.Proof, *Obstacle) {
	view, seen := c.t.m.cfg.Cluster.View(), c.seen[h.HostID]
	o := c.alive(view, h, seen)
	if o == nil {
		if p, ok := view.ProofFor(h); ok && p.Kind != fsm.ProofDead {
			return fsm.Proof{}, nil
		}
	}
	over := seen.over()
	p := fsm.Proof{Kind: fsm.ProofDead, Host: h.Name, HostID: h.HostID, Generation: h.Generation, By: r.By, Time: c.t.m.cfg.Now().UnixNano(),
		Evidence: fmt.Sprintf("its leases are dead or free in %d lockspaces of %d that can be read", len(over), len(seen)), Spaces: over.records(over)}
	switch {
	case o == nil && len(over) == 0: // only the lost master's own lease can keep it from writing, and that does
		return fsm.Proof{}, nil
	case o == nil:
		return p, nil
	case !slices.Contains(r.Dead, h.Name):
		return fsm.Proof{}, o
	}
	p.Kind, p.Evidence, p.Spaces = fsm.ProofPerson, r.Reason+"; forced although "+o.Why, seen.records(seen)
	return p, nil
}

// over are the sights of records that are dead or free by storage. In the lost master's lockspace, which nobody waits for, a host
// may be alive: no proof may have its record freed there.
func (s sights) over() sights {
	out := sights{}
	for ls, n := range s {
		if n.State == leases.HostDead || n.Record.Timestamp == 0 {
			out[ls] = n
		}
	}
	return out
}

// unread is a domain of the pool, besides the lost master, about which nothing can be said.
func (c *census) unread(view *fsm.State, seen sights) string {
	for id := range view.Domains.All() {
		if _, ok := seen[id]; !ok && id != c.master {
			return id
		}
	}
	return ""
}

// alive is what speaks against a silent host being unable to write; nil: nothing does. What it may still write to the lost master
// itself does not matter: whoever serves that again takes its lease first.
func (c *census) alive(view *fsm.State, h fsm.Host, seen sights) *Obstacle {
	o := &Obstacle{Host: h.Name, Help: fmt.Sprintf("switch it off and say so: holdfast host confirm-rebooted %s --reason TEXT, or name it with --dead", h.Name)}
	proof, proven := view.ProofFor(h)
	machine := proven && proof.Kind != fsm.ProofDead
	if ls := c.unread(view, seen); ls != "" && !machine {
		o.Why = "it does not answer, and no host that does can read lockspace " + ls + ", where it may be alive"
		o.Help = "make the LUNs of that domain readable, or " + o.Help
		return o
	}
	for ls, s := range seen {
		left := s.DeadIn
		if left <= 0 {
			left = max(c.t.m.cfg.Policy.LeaseLife-s.Silent, time.Second)
		}
		switch {
		case ls == c.master, s.Record.Timestamp == 0, covered(view, c.master, ls, s.Record):
		case string(s.State) != string(Dead) && left > o.In:
			o.Why, o.In = fmt.Sprintf("it does not answer, and its record in lockspace %s is %s", ls, s.State), left
			o.Help = "wait until it is dead there, or fence it; " + o.Help
		case string(s.State) == string(Dead) && o.Why == "" && !machine && !h.Protected() && !c.t.m.cfg.Policy.UnprotectedTakeover:
			o.Why = "its leases are dead, but nothing resets its machine: a write may still be on its way"
		}
	}
	if o.Why == "" {
		return nil
	}
	return o
}
