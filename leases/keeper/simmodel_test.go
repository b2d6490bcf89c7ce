package keeper

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-io/holdfast/leases"
)

// simLease is the state of one resource: all that its users may rely on.
type simLease struct {
	version uint64
	life    simLifeID // the holder, or the last one
	held    bool
	mayEnd  bool // held, but the next moment it may not be
}

// leaseInput is what a step does; several resources make a history.
type leaseInput struct {
	resource int
	kind     simOpKind
	life     simLifeID
	version  uint64 // 0 where the answer says it
	brief    bool   // an acquire whose caller knows nothing of it: the lease may end at once
}

// leaseOutput is what a step says.
type leaseOutput struct {
	life     simLifeID
	version  uint64
	state    leases.ResourceState
	takeable bool
}

// leaseModel is one resource, and what may happen to it in which order. Each resource is judged by itself.
var leaseModel = porcupine.Model{
	Partition: byResource,
	Init:      func() any { return simLease{} },
	Step: func(state, in, out any) (bool, any) {
		s, i, o := state.(simLease), in.(leaseInput), out.(leaseOutput)
		return s.step(i, o)
	},
	DescribeOperation: func(in, out any) string { return describe(in.(leaseInput), out.(leaseOutput)) },
	DescribeState:     func(state any) string { return state.(simLease).String() },
}

func byResource(history []porcupine.Operation) [][]porcupine.Operation {
	parts := make([][]porcupine.Operation, simResources)
	for _, op := range history {
		r := op.Input.(leaseInput).resource
		parts[r] = append(parts[r], op)
	}
	return parts
}

func (s simLease) step(i leaseInput, o leaseOutput) (bool, any) {
	switch i.kind {
	case opAcquire:
		return s.acquire(i, o.version)
	case opRelease:
		if i.version == s.version {
			s.held, s.mayEnd = false, false
		}
		return i.version <= s.version, s
	case opStatus:
		return s.status(o)
	case opWrite:
		return s.held && i.version == s.version, s
	case opMayEnd:
		if s.held && i.life == s.life && (i.version == 0 || i.version == s.version) {
			s.mayEnd = true
		}
		return true, s
	}
	return false, s
}

// acquire: from nobody, or from one who may be gone, under a higher token. Who asks again for what it holds is told again.
func (s simLease) acquire(i leaseInput, version uint64) (bool, any) {
	again := s.held && i.life == s.life && version == s.version
	if !again && (version <= s.version || s.held && !s.mayEnd) {
		return false, s
	}
	return true, simLease{version: version, life: i.life, held: true, mayEnd: i.brief}
}

// status: the very version, and its holder. Free once is free for good: what might end at any moment has ended.
func (s simLease) status(o leaseOutput) (bool, any) {
	if o.version != s.version || o.life != s.life {
		return false, s
	}
	switch o.state {
	case leases.ResourceExclusive:
		return s.held && (s.mayEnd || !o.takeable), s
	case leases.ResourceFree:
		free := !s.held || s.mayEnd
		s.held, s.mayEnd = false, false
		return free && o.takeable, s
	}
	return false, s
}

func (s simLease) String() string {
	switch {
	case !s.held:
		return fmt.Sprintf("free, last version %d of %v", s.version, s.life)
	case s.mayEnd:
		return fmt.Sprintf("version %d of %v, which may be gone", s.version, s.life)
	}
	return fmt.Sprintf("version %d of %v", s.version, s.life)
}

func (l simLifeID) String() string { return fmt.Sprintf("host %d/%d", l.host, l.generation) }

func describe(i leaseInput, o leaseOutput) string {
	switch i.kind {
	case opAcquire:
		return fmt.Sprintf("acquire by %v -> version %d", i.life, o.version)
	case opRelease:
		return fmt.Sprintf("release version %d", i.version)
	case opStatus:
		return fmt.Sprintf("status -> %s version %d of %v", o.state, o.version, o.life)
	case opWrite:
		return fmt.Sprintf("data under version %d", i.version)
	}
	return fmt.Sprintf("%v may end", i.life)
}
