package fsm

import "fmt"

// Kinds of proof that a host can no longer write.
const (
	ProofReleased = "released"  // it released its leases itself
	ProofDead     = "dead"      // its lease is dead: the wait is over and the watchdog has fired
	ProofPowerOff = "power_off" // its power was confirmed off
	ProofExit     = "exit"      // its process was seen to exit
	ProofPerson   = "person"    // a person gives their word
)

// Proof is recorded evidence that a host of a given generation can no longer write.
type Proof struct {
	Kind       string `codec:"k" json:"kind"`
	Host       string `codec:"n" json:"host"`
	HostID     int    `codec:"i" json:"host_id"`
	Generation uint64 `codec:"e" json:"generation"`
	Evidence   string `codec:"w" json:"evidence"`
	By         string `codec:"b" json:"by"`
	Time       int64  `codec:"t" json:"time"`
}

// ProofKey is the key of a host's proof in State.Proofs.
func ProofKey(host string, generation uint64) string {
	return fmt.Sprintf("%s/%020d", host, generation)
}

// covers says whether p is about the host as it is now.
func (p Proof) covers(h Host) bool {
	return p.Kind != "" && p.Host == h.Name && p.HostID == h.HostID && p.Generation >= h.Generation
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
	t.addProof(c.Proof)
	return Outcome{HostID: c.Proof.HostID}
}

// proofsPerHost is how many generations of a host keep their proof.
const proofsPerHost = 16

func (t *tables) addProof(p Proof) {
	t.proofs.put(ProofKey(p.Host, p.Generation), p)
	var keys []string
	for k := range t.proofs.Prefix(p.Host + "/") {
		keys = append(keys, k)
	}
	for ; len(keys) > proofsPerHost; keys = keys[1:] {
		t.proofs.remove(keys[0])
	}
}

func (t *tables) proven(h Host) bool {
	for _, p := range t.proofs.Prefix(h.Name + "/") {
		if p.covers(h) {
			return true
		}
	}
	return false
}

// ProofFor finds a proof for the host as it is now.
func (s *State) ProofFor(h Host) (Proof, bool) {
	for _, p := range s.Proofs.Prefix(h.Name + "/") {
		if p.covers(h) {
			return p, true
		}
	}
	return Proof{}, false
}
