package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

// Kinds of proof that a host can no longer write.
const (
	ProofReleased = "released"  // it released its leases itself
	ProofDead     = "dead"      // its lease is dead: the wait is over and the watchdog has fired
	ProofPowerOff = "power_off" // its power was confirmed off
	ProofExit     = "exit"      // its process was seen to exit
	ProofPerson   = "person"    // a person gives their word
	ProofKdump    = "kdump"     // its crashed kernel was seen to dump its memory
)

// Proof is recorded evidence that a host of a given generation can no longer write.
//
// Generation is that of the master's lockspace. A host has another one in each lockspace, so Spaces says for each what
// was seen there: the proof is about these generations and no later ones.
type Proof struct {
	Kind       string `codec:"k" json:"kind"`
	Host       string `codec:"n" json:"host"`
	HostID     int    `codec:"i" json:"host_id"`
	Generation uint64 `codec:"e" json:"generation"`
	Evidence   string `codec:"w" json:"evidence"`
	By         string `codec:"b" json:"by"`
	Time       int64  `codec:"t" json:"time"`

	Spaces []SpaceRecord `codec:"s,omitempty" json:"spaces,omitempty"` // by lockspace; none in the oldest proofs
}

// SpaceRecord is a host's record in one lockspace as it was seen for a proof: the generation before the host was switched
// off, the timestamp afterwards.
type SpaceRecord struct {
	Lockspace  string `codec:"l" json:"lockspace"` // the domain's UUID
	Generation uint64 `codec:"e" json:"generation"`
	Timestamp  uint64 `codec:"t" json:"timestamp"` // 0: the host had left the lockspace
}

// maxSpaces bounds the lockspaces of one proof; more than a pool can have.
const maxSpaces = 1024

// ProofKey is the key of a host's proof in State.Proofs.
func ProofKey(host string, generation uint64) string {
	return fmt.Sprintf("%s/%020d", host, generation)
}

// covers says whether p is about the host as it is now. A proof from before the present master counts by what it says about the
// lockspace of that: the generations of two lockspaces have nothing to do with each other.
func (p Proof) covers(h Host, pool Pool) bool {
	if p.Kind == "" || p.Host != h.Name || p.HostID != h.HostID {
		return false
	}
	if p.Time >= pool.MasterSince {
		return p.Generation >= h.Generation
	}
	s, ok := p.Space(pool.Master, "")
	return ok && h.Generation > 0 && s.Generation >= h.Generation
}

// ProofAdd records a proof.
type ProofAdd struct {
	base  `codec:"-"`
	Proof Proof `codec:"p"`
}

func (*ProofAdd) kind() kind { return kindProofAdd }

func (c *ProofAdd) apply(t *tables, _ uint64) Outcome {
	if c.Proof.Kind == "" || c.Proof.Host == "" {
		return refuse(CodeInvalid, "a proof needs a kind and a host")
	}
	if len(c.Proof.Spaces) > maxSpaces {
		return refuse(CodeInvalid, fmt.Sprintf("a proof names at most %d lockspaces", maxSpaces))
	}
	t.addProof(c.Proof)
	return Outcome{HostID: c.Proof.HostID}
}

// proofsPerHost is how many generations of a host keep their proof.
const proofsPerHost = 16

func (t *tables) addProof(p Proof) {
	if old, ok := t.proofs.Get(ProofKey(p.Host, p.Generation)); ok && old.HostID == p.HostID { // not of a namesake that was removed
		p.Spaces = mergeSpaces(old.Spaces, p.Spaces)
	} else {
		p.Spaces = mergeSpaces(nil, p.Spaces)
	}
	p.Evidence = cut(p.Evidence, MaxEvidence)
	t.proofs.put(ProofKey(p.Host, p.Generation), p)
	t.prune(p.Host, ProofKey(p.Host, p.Generation))
}

// prune forgets a host's oldest proofs, never the one that was just added. Generations do not tell which is older: a new master's
// lockspace counts its own.
func (t *tables) prune(host, added string) {
	var keys []string
	age := map[string]int64{}
	for k, p := range t.proofs.Prefix(host + "/") {
		if age[k] = p.Time; k != added {
			keys = append(keys, k)
		}
	}
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(age[a], age[b]), cmp.Compare(a, b)) })
	for ; len(keys) >= proofsPerHost; keys = keys[1:] {
		t.proofs.remove(keys[0])
	}
}

// mergeSpaces adds what a second proof of the same generation has seen to what the first had; of one lockspace the later
// sight counts. The result is sorted.
func mergeSpaces(old, seen []SpaceRecord) []SpaceRecord {
	out := slices.Clone(seen)
	for _, o := range old {
		if !slices.ContainsFunc(seen, func(s SpaceRecord) bool { return s.Lockspace == o.Lockspace }) {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b SpaceRecord) int { return cmp.Compare(a.Lockspace, b.Lockspace) })
	return out[:min(len(out), maxSpaces)]
}

func (t *tables) proven(h Host) bool {
	for _, p := range t.proofs.Prefix(h.Name + "/") {
		if p.covers(h, t.pool()) {
			return true
		}
	}
	return false
}

// ProofFor finds a proof for the host as it is now.
func (s *State) ProofFor(h Host) (Proof, bool) {
	pool, _ := s.Pool()
	for _, p := range s.Proofs.Prefix(h.Name + "/") {
		if p.covers(h, pool) {
			return p, true
		}
	}
	return Proof{}, false
}

// Space is what the proof says about one lockspace. Proofs that name none are about the master's alone.
func (p Proof) Space(lockspace, master string) (SpaceRecord, bool) {
	for _, s := range p.Spaces {
		if s.Lockspace == lockspace {
			return s, true
		}
	}
	if lockspace == master && len(p.Spaces) == 0 {
		return SpaceRecord{Lockspace: lockspace, Generation: p.Generation}, true
	}
	return SpaceRecord{}, false
}

// ProofOf finds a proof about exactly this generation of a host id in a lockspace, the newest one. The name that the host
// had does not matter: it is the slot and its generation that a record on disk shows.
func (s *State) ProofOf(hostID int, lockspace string, generation uint64) (Proof, bool) {
	pool, _ := s.Pool()
	var found Proof
	for _, p := range s.Proofs.All() {
		sp, ok := p.Space(lockspace, pool.Master)
		if len(p.Spaces) == 0 && p.Time < pool.MasterSince {
			continue // it is about the lockspace of a former master, which counted its own generations
		}
		if ok && p.Kind != "" && p.HostID == hostID && sp.Generation == generation && p.Time >= found.Time {
			found = p
		}
	}
	return found, found.Kind != ""
}
