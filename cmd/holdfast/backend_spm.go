package main

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
)

// explainTimeout bounds the question to the leader; without an answer this host says what it knows itself.
const explainTimeout = time.Second

// SPM says who has the role, why, who would have it next, and what is awaited.
func (b *backend) SPM(ctx context.Context) (api.SPM, error) {
	_, pool, err := b.pool()
	if err != nil {
		return api.SPM{}, err
	}
	out := mirroredSPM(pool)
	out.Explained = b.explainSPM(ctx, pool)
	return withWhy(out), nil
}

// spmShort is the same for the status screen, which does not ask the leader while all is well.
func (b *backend) spmShort(ctx context.Context, pool fsm.Pool) api.SPM {
	out := mirroredSPM(pool)
	if pool.ID == "" || pool.SPM.State == fsm.SPMServing {
		return out
	}
	out.Explained = b.explainSPM(ctx, pool)
	return withWhy(out)
}

// mirroredSPM is the role as this host's mirror shows it.
func mirroredSPM(pool fsm.Pool) api.SPM {
	out := apiSPM(pool.SPM)
	if out.State == "" {
		out.State, out.Desired = api.SPMNone, fsm.DesireAny
	}
	return out
}

// withWhy makes the reason that of now while nobody serves.
func withWhy(s api.SPM) api.SPM {
	e := s.Explained
	if e == nil || s.State == api.SPMServing || e.Why == "" {
		return s
	}
	s.Reason = e.Why
	if e.Awaits != "" {
		s.Reason += "; awaits " + e.Awaits
	}
	if e.InSeconds > 0 {
		s.Reason += fmt.Sprintf(" (%s left)", seconds(e.InSeconds))
	}
	return s
}

// explainSPM is what the leader's manager says, or what is known here without it.
func (b *backend) explainSPM(ctx context.Context, pool fsm.Pool) *api.SPMExplained {
	if mgr := b.host.Manager(); mgr != nil {
		if st, ok := mgr.Status(); ok {
			return apiExplained(st)
		}
	}
	n := b.host.Node()
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	leader, known := n.Leader()
	if !known {
		return b.explainAlone(ctx, n, pool, "no leader is known, so nobody decides about the role",
			"a leader: more than half of the hosts that vote have to run and to reach each other")
	}
	var st manager.Status
	if err := n.Call(ctx, leader, manager.MethodExplain, struct{}{}, &st); err != nil {
		return b.explainAlone(ctx, n, pool, fmt.Sprintf("%s leads and does not say what it decides (%v)", leader, err), "its answer, or another leader")
	}
	return apiExplained(st)
}

// explainAlone says what this host knows without a leader: its mirror, and the lease as it is on the disk.
func (b *backend) explainAlone(ctx context.Context, n *cluster.Node, pool fsm.Pool, why, awaits string) *api.SPMExplained {
	e := &api.SPMExplained{At: time.Now().UTC(), Why: why, Awaits: awaits}
	age, _ := n.Age()
	e.Why += fmt.Sprintf("; by this host's mirror of %s ago %s", age.Round(100*time.Millisecond), roleWords(pool.SPM))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainTimeout)
	defer cancel()
	var seen manager.InspectReply
	err := n.Call(ctx, n.Name(), manager.MethodInspect, struct{}{}, &seen)
	switch {
	case err != nil:
		e.Why += "; this host cannot read the lease: " + err.Error()
	case seen.LeaseError != "":
		e.Why += "; this host cannot read the lease: " + seen.LeaseError
	default:
		e.Why += "; on the disk " + leaseWords(n.View(), seen)
	}
	return e
}

// roleWords is the mirror's word about the role.
func roleWords(s fsm.SPM) string {
	if s.Host == "" {
		return "nobody has the role"
	}
	return fmt.Sprintf("%s is %s at epoch %d", s.Host, s.State, s.Epoch)
}

// leaseWords is the disk's.
func leaseWords(st *fsm.State, seen manager.InspectReply) string {
	l := seen.Lease
	if !l.Held {
		return fmt.Sprintf("the lease is free at version %d", l.Version)
	}
	who := hostNameOf(st, l.Owner)
	for _, h := range seen.Hosts {
		if h.HostID == l.Owner && h.Generation == l.Generation {
			return fmt.Sprintf("the lease belongs to %s at version %d, which is %s", who, l.Version, h.State)
		}
	}
	return fmt.Sprintf("the lease belongs to %s at version %d", who, l.Version)
}

// apiExplained is the manager's status as the API shows it.
func apiExplained(st manager.Status) *api.SPMExplained {
	e := &api.SPMExplained{Leader: st.Leader, At: st.At.UTC(), Row: string(st.Row), Why: st.Why, Chosen: st.Chosen, Awaits: st.Awaits,
		InSeconds: max(st.In-time.Since(st.At), 0).Seconds(), Moves: st.Moves, Next: []api.SPMHeir{}}
	if st.In > 0 {
		e.InSeconds = max(e.InSeconds, 0.001) // it is due
	}
	for _, h := range st.Next {
		e.Next = append(e.Next, api.SPMHeir{Host: h.Host, Able: h.Able, Why: h.Why, InSeconds: h.In.Seconds()})
	}
	return e
}
