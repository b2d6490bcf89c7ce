package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

var (
	// ErrMasterReadable refuses to give up a master that can be read: then its own lease and keys tell what is true.
	ErrMasterReadable = errors.New("the pool's master can be read")
	// ErrNewMasterUnread refuses a domain that no host that answers has open: nobody could serve under it.
	ErrNewMasterUnread = errors.New("no host that answers can use the domain")
	// ErrMasterNotProven is what UnprovenError matches.
	ErrMasterNotProven = errors.New("a host may still write under the lease of the lost master")
)

// Reconstruction makes a domain the pool's master although the present one is lost.
type Reconstruction struct {
	Domain string // UUID
	By     string
	Reason string
	// Dead are hosts of which By gives their word that they write nothing any more, although nothing else proves it.
	Dead []string
	// Force takes the mirror's word where the present master itself is to go on, and what a change of the master left cannot be read; and
	// a domain that is not known to be reachable.
	Force bool
}

// Reconstructed is what it was based on.
type Reconstructed struct {
	Master, Former string
	Version        int
	Promised       []string    // hosts that answer and gave their word
	Proofs         []fsm.Proof // of the others
}

// Obstacle is a host that keeps a master from being given up, and what would help.
type Obstacle struct {
	Host    string
	Answers bool
	Why     string
	Help    string
	In      time.Duration // when it will be no obstacle any more by itself; 0: not by itself, or unknown
}

func (o Obstacle) String() string {
	s := o.Host + ": " + o.Why
	if o.In > 0 {
		s += fmt.Sprintf(" (in %s)", o.In.Round(time.Second))
	}
	return s + "; " + o.Help
}

// UnprovenError lists the hosts that may still write under the lease of a master that is to be given up.
type UnprovenError struct{ Obstacles []Obstacle }

// Error lists them with what would help.
func (e *UnprovenError) Error() string {
	list := make([]string, len(e.Obstacles))
	for i, o := range e.Obstacles {
		list[i] = o.String()
	}
	return fmt.Sprintf("%v: %s", ErrMasterNotProven, strings.Join(list, " | "))
}

// Is makes the error match ErrMasterNotProven.
func (e *UnprovenError) Is(target error) bool { return target == ErrMasterNotProven }

// In is the longest countdown; 0 when any host is an obstacle that does not go away by itself.
func (e *UnprovenError) In() time.Duration {
	var longest time.Duration
	for _, o := range e.Obstacles {
		if o.In == 0 {
			return 0
		}
		longest = max(longest, o.In)
	}
	return longest
}

// ReconstructMaster gives the present master up and makes another domain the master. It works on the leader. What is on the disk
// follows: whoever is made SPM then writes the keys of the new master.
func (m *Manager) ReconstructMaster(ctx context.Context, r Reconstruction) (Reconstructed, error) {
	var out Reconstructed
	err := m.inTerm(ctx, func(t *term) (err error) {
		out, err = t.reconstruct(ctx, r)
		return err
	})
	return out, err
}

// bugNoProof is a planted mistake, in tests only.
const bugNoProof = "a master is given up without proof"

// wordFor is how long hosts give their word for; the decision must be committed in half of that.
const wordFor = time.Minute

// reconstruct is the written order: nobody reads the old master, somebody has the new one, each host gave its word or is proven dead,
// commit. The term is over with its context. While that goes on this leader gives nobody the role: a host that joined, or whose agent
// began anew, after it was asked has given no word.
func (t *term) reconstruct(ctx context.Context, r Reconstruction) (Reconstructed, error) {
	done, err := t.holdRole(ctx)
	if err != nil {
		return Reconstructed{}, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, wordFor/2)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	view := t.m.cfg.Cluster.View()
	pool, ok := view.Pool()
	if !ok {
		return Reconstructed{}, ErrNoPool
	}
	// Before anybody is looked at: an SPM that regains a domain later, and is told that its master stays, makes the commit fail.
	confirmed, _ := view.Config.Get(fsm.ConfigMasterConfirmed)
	out := Reconstructed{Master: r.Domain, Former: pool.Master, Version: max(pool.MasterVersion, 1) + 1}
	switch {
	case pool.Master != r.Domain:
	case r.Force:
		out.Version++ // above that of the domain that may have followed
	case assumed(pool): // asked for again
		out.Former, out.Version = pool.Former[len(pool.Former)-1].Domain, pool.MasterVersion
		return out, nil
	}
	if !view.Domains.Has(r.Domain) {
		return out, &fsm.RefusedError{Code: fsm.CodeNotFound, Message: "no domain " + r.Domain + " in the pool"}
	}
	c := t.census(ctx, view, pool)
	if err := c.allows(pool, r); err != nil {
		return out, err
	}
	c.promises(ctx)
	if err := c.judge(r); err != nil && t.m.bug != bugNoProof {
		c.giveBack()
		return out, err
	}
	out.Promised, out.Proofs = c.promised, c.proofs
	if err := t.giveUpMaster(ctx, c, pool, r, out.Version, confirmed); err != nil {
		if _, refused := errors.AsType[*fsm.RefusedError](err); refused {
			c.giveBack() // it surely did not happen
		}
		return out, err
	}
	t.stale()
	t.poke()
	return out, nil
}

// giveUpMaster commits the proofs, and then the new master.
func (t *term) giveUpMaster(ctx context.Context, c *census, pool fsm.Pool, r Reconstruction, version int, confirmed string) error {
	if now, _ := t.m.cfg.Cluster.View().Config.Get(fsm.ConfigMasterConfirmed); now != confirmed { // it would be refused; no proof is left behind
		return fmt.Errorf("giving up master %s: %w", pool.Master, &fsm.RefusedError{Code: fsm.CodeConflict,
			Message: "a host made sure of the present master meanwhile; try again, so that all hosts are looked at again"})
	}
	for _, p := range c.proofs {
		if err := t.command(ctx, &fsm.ProofAdd{Proof: p}); err != nil {
			return fmt.Errorf("recording the proof about %s: %w", p.Host, err)
		}
		for _, f := range t.freeEverywhere(ctx, p) {
			t.report(f.Err, "freeing a host that is proven dead")
		}
	}
	err := t.command(ctx, &fsm.PoolMaster{Pool: pool.ID, Master: r.Domain, Expect: pool.Master, MasterVersion: version, Abandoned: true, Confirmed: confirmed,
		Force: r.Force, Host: t.m.cfg.Host, By: r.By, Reason: r.Reason, Time: t.m.cfg.Now().UnixNano()})
	if err != nil {
		return fmt.Errorf("recording the new master: %w", err)
	}
	return nil
}

// holdRole waits for what is under way about the role, and keeps anything further from being begun until done is called.
func (t *term) holdRole(ctx context.Context) (done func(), err error) {
	for {
		t.mu.Lock()
		free := !t.busy[keyRole]
		if free {
			t.busy[keyRole] = true
		}
		t.mu.Unlock()
		if free {
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.busy, keyRole)
			}, nil
		}
		if pause(ctx, breath); ctx.Err() != nil || t.ctx.Err() != nil {
			return nil, fmt.Errorf("waiting for what is being done about the SPM role: %w", errors.Join(ctx.Err(), t.ctx.Err()))
		}
	}
}
