package main

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/cluster/startable"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

// startFacts joins what the LUN says about a lease with what the mirror knows of its holders. A mirror that is behind makes the
// answer more careful, or changes its words: proofs and protection only ever add to what the storage grants.
func startFacts(st *fsm.State, domain string, l *xlease.Status, now time.Time) startable.Resource {
	if l.Err != nil {
		return startable.Resource{Problem: l.Err.Error(), Unreadable: errors.Is(l.Err, unix.EIO)}
	}
	var r startable.Resource
	for i := range l.Holders {
		r.Holders = append(r.Holders, startHolder(st, domain, &l.Holders[i], now))
	}
	if l.Former != nil {
		f := startHolder(st, domain, l.Former, now)
		r.Former = &f
	}
	if l.State == leases.ResourceFree {
		r.Last = hostNameOf(st, l.Owner)
	}
	return r
}

func startHolder(st *fsm.State, domain string, h *leases.Holder, now time.Time) startable.Holder {
	out := startable.Holder{Host: hostNameOf(st, h.HostID), HostID: h.HostID, Generation: h.Generation, RecordGeneration: h.Status.Generation,
		State: startable.State(h.Status.State), Silent: h.Status.Silent, DeadIn: h.Status.DeadIn, Proof: startProof(st, domain, h)}
	m, ok := st.HostByID(h.HostID)
	if !ok {
		return out
	}
	if out.State == startable.Live && out.DeadIn == 0 {
		out.DeadIn = deadAtMost(st, h.Status.IOTimeout)
	}
	out.Member, out.Protected = true, m.Protected()
	state := m.CurrentState()
	out.Lost = lostState(state)
	if out.Lost || !wellState(state) {
		out.Condition = strings.TrimSuffix(state+": "+m.Reason, ": ")
	}
	out.Fencing = fencingWords(st, m.Name, now)
	return out
}

// deadAtMost is how long a host that has just renewed takes to be DEAD when it falls silent. Its record is newer than the last look
// of our keeper, so nobody has counted its silence yet.
func deadAtMost(st *fsm.State, ioTimeout time.Duration) time.Duration {
	pool, _ := st.Pool()
	p, err := leases.ProfileByName(pool.Profile)
	if err != nil {
		return 0
	}
	p.IOTimeout = max(p.IOTimeout, ioTimeout)
	return p.SurelyDead()
}

// wellState says whether the manager finds nothing wrong with a host in a state.
func wellState(state string) bool {
	switch state {
	case fsm.HostUp, fsm.HostJoining, fsm.HostPreparing, fsm.HostMaintenance:
		return true
	}
	return false
}

// lostState says whether the manager does not hear of a host in a state. One that is isolated still renews on storage.
func lostState(state string) bool {
	switch state {
	case fsm.HostConnecting, fsm.HostNonResponsive, fsm.HostFencing, fsm.HostRebooting, fsm.HostDown:
		return true
	}
	return false
}

// startProof is the recorded proof about exactly the generation that has the lease, judged by the record as it is now.
func startProof(st *fsm.State, domain string, h *leases.Holder) *startable.Proof {
	p, ok := st.ProofOf(h.HostID, domain, h.Generation)
	if !ok {
		return nil
	}
	pool, _ := st.Pool()
	rec := leases.HostRecord{HostID: h.HostID, Generation: h.Status.Generation, Timestamp: h.Status.Timestamp, IOTimeout: h.Status.IOTimeout}
	out := &startable.Proof{Kind: p.Kind, Evidence: p.Evidence, By: p.By, Time: unixTime(p.Time)}
	switch manager.Judge(p, domain, pool.Master, rec) {
	case manager.VerdictVoid, manager.VerdictOther:
		out.Void = true
	}
	return out
}

// apiStart is an answer as the API shows it.
func apiStart(a startable.Answer) *api.LeaseStart {
	out := &api.LeaseStart{Startable: a.Startable, Rule: string(a.Rule), Why: a.Why, Awaits: a.Awaits, In: rounded(a.In), Host: a.Host, NextStep: a.NextStep}
	if p := a.Proof; p != nil {
		out.Proof = &api.LeaseProof{Kind: p.Kind, Evidence: p.Evidence, By: p.By, Time: p.Time}
	}
	return out
}
