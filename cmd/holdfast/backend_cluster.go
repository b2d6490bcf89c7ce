package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
)

// Sync brings this host's mirror up to what a reader asked for.
func (b *backend) Sync(ctx context.Context, consistent bool, after uint64) (httpapi.Mark, error) {
	n, err := b.node()
	if err != nil {
		return httpapi.Mark{}, err
	}
	b.awaitCaughtUp(ctx, n)
	if consistent {
		if err := n.Barrier(ctx); err != nil {
			return httpapi.Mark{}, apiError(err)
		}
	}
	if after > 0 {
		if _, err := n.WaitIndex(ctx, after+1); err != nil && !errors.Is(err, ctx.Err()) {
			return httpapi.Mark{}, apiError(err)
		}
	}
	age, _ := n.Age() // before the view, which may be newer than that but not older
	st := n.View()
	if !st.Initialised() { // what it would answer is that there is nothing
		return httpapi.Mark{}, api.Errorf(api.CodeUnavailable, "ask another host, or try again in a moment",
			"%s is a new member and no leader has told it yet what the cluster holds", n.Name())
	}
	return httpapi.Mark{Index: st.Index, Age: age}, nil
}

// catchUpWait is how long after it was opened a node is waited for by readers; then they get what there is, and its age. A host that
// hears from no leader does not keep them any longer.
const catchUpWait = 3 * time.Second

// awaitCaughtUp waits until a host that has just started has applied what was committed by then: before that it would deny what
// exists.
func (b *backend) awaitCaughtUp(ctx context.Context, n *cluster.Node) {
	left := catchUpWait - time.Since(n.Opened())
	if left <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	tick := time.NewTicker(transferPoll)
	defer tick.Stop()
	for {
		if _, caughtUp := n.Age(); caughtUp {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Status is the whole pool on one screen. It answers before the host is a member, too.
func (b *backend) Status(ctx context.Context) (api.Status, error) {
	out := api.Status{Host: b.host.Name(), Version: version, Time: time.Now().UTC(), Hosts: []api.Host{},
		Domains: []api.Domain{}, Warnings: []api.Warning{}, SPM: api.SPM{State: api.SPMNone, Desired: fsm.DesireAny}}
	n := b.host.Node()
	if n == nil {
		out.Warnings = append(out.Warnings, api.Warning{Severity: api.SeverityError, Subject: "host/" + out.Host,
			Message: "this host belongs to no cluster", NextStep: "holdfast init on the first host, holdfast join on every other"})
		return out, nil
	}
	st := n.View()
	pool, _ := st.Pool()
	leader, _ := n.Leader()
	raft, _ := n.Status() // zero while raft starts
	peers, _ := n.RaftPeers()
	out.Member, out.Pool, out.Volumes = true, apiPool(pool), st.Volumes().Len()
	out.Raft = api.Raft{Leader: leader, State: strings.ToLower(raft.State), Term: raft.Term, Index: st.Index,
		Voters: voters(peers), Quorum: leader != ""}
	out.Domains, out.Hosts, out.SPM = domainsOf(st), b.hosts(), b.spmShort(ctx, pool)
	if !st.Initialised() {
		out.Warnings = append(out.Warnings, api.Warning{Severity: api.SeverityError, Subject: "host/" + out.Host,
			Message:  "this host is a new member and no leader has told it yet what the cluster holds",
			NextStep: "look whether this host reaches the others on the cluster network"})
	}
	out.Warnings = append(out.Warnings, warnings(st, out.Hosts, leader)...)
	out.Warnings = append(out.Warnings, attachedWarnings(b.attached.List())...)
	return out, nil
}

func voters(peers []cluster.RaftPeer) int {
	n := 0
	for _, p := range peers {
		if p.Voter {
			n++
		}
	}
	return n
}

// Health says whether this process does what it should.
func (b *backend) Health(context.Context) api.Health {
	h := api.Health{OK: true, Host: b.host.Name()}
	n := b.host.Node()
	if n == nil {
		return h
	}
	h.Member = true
	pool, ok := n.View().Pool()
	if leader, _ := n.Leader(); leader == "" {
		h.OK, h.Reason = false, "no leader is known"
	} else if ok && pool.Master != "" {
		if err := b.host.Storage(); err != nil {
			h.OK, h.Reason = false, err.Error()
		}
	}
	return h
}

// Hosts lists the members.
func (b *backend) Hosts(context.Context) ([]api.Host, error) {
	if _, err := b.node(); err != nil {
		return nil, err
	}
	return b.hosts(), nil
}

func (b *backend) hosts() []api.Host {
	n := b.host.Node()
	st := n.View()
	pool, _ := st.Pool()
	leader, _ := n.Leader()
	out := make([]api.Host, 0, st.Hosts.Len())
	for _, h := range st.Hosts.All() {
		out = append(out, apiHost(h, pool, leader, n.Alive(h.Name)))
	}
	return out
}

// operator carries out somebody's wishes about the role.
func (b *backend) operator(by, reason string) (manager.Operator, error) {
	n, err := b.node()
	op := manager.Operator{Cluster: n, Now: time.Now, By: by, Reason: reason}
	if mgr := b.host.Manager(); mgr != nil {
		op.Status = mgr.Status
	}
	return op, err
}

// wish runs one wish and shows what came of it.
func (b *backend) wish(by, reason string, fn func(manager.Operator) (fsm.SPM, error)) (api.SPM, error) {
	op, err := b.operator(by, reason)
	if err != nil {
		return api.SPM{}, err
	}
	s, err := fn(op)
	return apiSPM(s), apiError(err)
}

// MoveSPM moves the role.
func (b *backend) MoveSPM(ctx context.Context, req api.SPMMove, by string) (api.SPM, error) {
	return b.wish(by, req.Reason, func(op manager.Operator) (fsm.SPM, error) { return op.Move(ctx, req.To) })
}

// StopSPM takes the role from everybody.
func (b *backend) StopSPM(ctx context.Context, req api.SPMStop, by string) (api.SPM, error) {
	return b.wish(by, req.Reason, func(op manager.Operator) (fsm.SPM, error) { return op.Stop(ctx) })
}

// StartSPM takes a stop back.
func (b *backend) StartSPM(ctx context.Context, req api.SPMStart, by string) (api.SPM, error) {
	return b.wish(by, "", func(op manager.Operator) (fsm.SPM, error) { return op.Start(ctx, req.To) })
}

// Forwarding: where the roles are.

// spmTarget is the SPM as far as this host knows.
func (b *backend) forwardSPM() httpapi.Target {
	n := b.host.Node()
	if n == nil {
		return httpapi.Target{Self: true}
	}
	st := n.View()
	if _, ok := st.Pool(); !ok {
		// A host that has just started has not read its own log yet; one whose cluster has no pool answers that itself.
		return httpapi.Target{Self: st.Initialised()}
	}
	if r := b.host.Role(); r != nil {
		if st := r.Status(); st.State == fsm.SPMServing {
			return httpapi.Target{Host: b.host.Name(), Epoch: st.Epoch, Self: true}
		}
	}
	spm := n.SPM()
	if spm.State != fsm.SPMServing || spm.Host == b.host.Name() {
		return httpapi.Target{Epoch: spm.Epoch}
	}
	return httpapi.Target{Host: spm.Host, Epoch: spm.Epoch}
}

// forwarder implements httpapi.Forwarder on a backend, whose own SPM method is another one.
type forwarder struct{ b *backend }

// SPM is the host that serves as SPM.
func (f forwarder) SPM() httpapi.Target { return f.b.forwardSPM() }

// Leader is the host that leads the cluster.
func (f forwarder) Leader() httpapi.Target {
	n := f.b.host.Node()
	if n == nil {
		return httpapi.Target{Self: true}
	}
	leader, _ := n.Leader()
	raft, _ := n.Status() // without it the term is 0, which only costs a retry
	return httpapi.Target{Host: leader, Epoch: raft.Term, Self: n.IsLeader()}
}

// leaderPoll is how soon a change of leader is noticed that changes nothing in the replicated state.
const leaderPoll = 50 * time.Millisecond

// Changed is closed when either may have changed.
func (f forwarder) Changed() <-chan struct{} {
	var state <-chan struct{}
	if n := f.b.host.Node(); n != nil {
		state = n.Changed()
	}
	ch := make(chan struct{})
	go func() { // ends by itself within leaderPoll
		defer close(ch)
		t := time.NewTimer(leaderPoll)
		defer t.Stop()
		select {
		case <-state:
		case <-t.C:
		}
	}()
	return ch
}

// RoundTripper reaches the API of another member.
func (f forwarder) RoundTripper(host string) http.RoundTripper {
	n := f.b.host.Node()
	if n == nil {
		return noMember{}
	}
	return unsent{n.RoundTripper(host)}
}

// unsent tells the API when the other host surely got nothing, also because it ended in the middle of a handshake: such a
// request can be passed on once more, whatever it is.
type unsent struct{ next http.RoundTripper }

// RoundTrip sends one request.
func (u unsent) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := u.next.RoundTrip(r)
	if err != nil && errors.Is(err, cluster.ErrUnreachable) && !errors.Is(err, cluster.ErrOutcomeUnknown) {
		return nil, fmt.Errorf("%w: %w", httpapi.ErrNotSent, err)
	}
	return resp, err
}

// noMember refuses to forward from a host that belongs to no cluster.
type noMember struct{}

// RoundTrip sends nothing.
func (noMember) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("this host belongs to no cluster: %w", httpapi.ErrNotSent)
}
