package keeper

import (
	"errors"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

// simOpKind is what an operation on a resource is.
type simOpKind int

const (
	opAcquire simOpKind = iota // asks for the lease; the answer is its version, the fencing token
	opRelease                  // gives it back
	opStatus                   // reads the resource's state
	opWrite                    // data under a token: once when it has passed its last check, and with each sector that lands
	opMayEnd                   // from here on others may have what is held by a life, see mayEnd
)

// simLifeID names a holder as the disk does.
type simLifeID struct {
	host       int
	generation uint64
}

// simOp is an operation on a resource.
type simOp struct {
	kind      simOpKind
	machine   int
	life      simLifeID // who acquires or releases, who ends, whom a status names
	version   uint64    // acquired, released, written under or told; 0 in opMayEnd: all that the life holds
	state     leases.ResourceState
	takeable  bool
	call, ret time.Duration
	outcome   simOutcome
}

type simOutcome int

const (
	outcomeUnknown simOutcome = iota // also of what never came back
	outcomeDone
	outcomeNone // surely nothing came of it
)

// simHistory is what was asked for and answered in a run, by resource. It only listens: a run is the same without it.
// It is guarded by simChecker.mu.
type simHistory struct {
	ops    [simResources][]*simOp
	bounds map[simLifeID]time.Duration // 8N + W after the start of a life's last renewal that landed, by its clock
	quiet  [simResources]*simOp        // the last event, if it was a write
}

// size is how many operations there are, and how many of them are statuses.
func (h *simHistory) size() (ops, statuses int64) {
	for r := range simResources {
		for _, op := range h.ops[r] {
			if ops++; op.kind == opStatus {
				statuses++
			}
		}
	}
	return ops, statuses
}

// calls notes that something is asked for.
func (c *simChecker) calls(m *simMachine, kind simOpKind, r int, version uint64) *simOp {
	c.mu.Lock()
	defer c.mu.Unlock()
	op := &simOp{kind: kind, machine: m.index, life: simLifeID{m.hostID, m.generation}, version: version, call: time.Since(c.t0)}
	c.put(r, op)
	return op
}

// returns notes the answer that fill puts into op.
func (c *simChecker) returns(r int, op *simOp, fill func(*simOp)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	op.ret = time.Since(c.t0)
	fill(op)
	c.said.quiet[r] = nil
}

// put adds an operation; the caller holds mu.
func (c *simChecker) put(r int, op *simOp) {
	if !c.ended {
		c.said.ops[r] = append(c.said.ops[r], op)
		c.said.quiet[r] = nil
	}
}

// used notes a use of a token. One just like the last event says nothing new. The caller holds mu.
func (c *simChecker) used(m *simMachine, r int, version uint64) {
	if q := c.said.quiet[r]; c.ended || q != nil && q.version == version && q.machine == m.index {
		return
	}
	now := time.Since(c.t0)
	op := &simOp{kind: opWrite, machine: m.index, version: version, call: now, ret: now, outcome: outcomeDone}
	c.put(r, op)
	c.said.quiet[r] = op
}

// mayEnd notes that from now on what the last life of m holds may be taken away at any moment, and by whom is not known:
// its host id is joined again, its agent is gone with a keeper that lives, or it was proven dead.
func (c *simChecker) mayEnd(m *simMachine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Since(c.t0)
	for r := range simResources {
		c.put(r, &simOp{kind: opMayEnd, machine: m.index, life: simLifeID{m.hostID, m.generation}, call: now, ret: now, outcome: outcomeDone})
	}
}

// renewedUntil notes when a life surely ends if it renews no more; the caller holds mu.
func (c *simChecker) renewedUntil(id simLifeID, bound time.Time) {
	c.said.bounds[id] = max(c.said.bounds[id], bound.Sub(c.t0))
}

// answered is what an acquire came to. Only a refusal proves that it did nothing: all other errors leave open whether
// another host, or the disk, made us owner.
func (op *simOp) answered(version uint64, err error) {
	switch {
	case err == nil:
		op.version, op.outcome = version, outcomeDone
	case errors.Is(err, leases.ErrHeld) && !errors.Is(err, blockdev.ErrOutcomeUnknown):
		op.outcome = outcomeNone
	}
}

// given is what a release came to.
func (op *simOp) given(err error) {
	if err == nil {
		op.outcome = outcomeDone
	}
}

// told is what a status said.
func (op *simOp) told(info leases.ResourceInfo, err error) {
	if err != nil {
		return
	}
	op.life, op.version = simLifeID{info.Owner, info.Generation}, info.Version
	op.state, op.takeable, op.outcome = info.State, info.Takeable, outcomeDone
}
