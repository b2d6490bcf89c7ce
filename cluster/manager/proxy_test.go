package manager

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
)

// intended is a mirror in which the leader of term 5 has committed the intent of an off of h1 through h2.
func intended(t *testing.T, more ...fsm.Command) *fsm.FSM {
	t.Helper()
	f := fsm.New()
	cmds := []fsm.Command{
		&fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: 1, Host: fsm.Host{Name: "h1", KeyHash: "k"}, Time: 1},
		&fsm.FenceBegin{Term: 5, Op: fsm.FenceOp{ID: "f1", Host: "h1", HostID: 1, Generation: 2, Action: fsm.FenceOff, Began: 1, Leader: "h3",
			Steps: []fsm.FenceStep{{Rung: RungRPC, Result: fsm.StepFailed}, {Rung: RungPower, Device: "bmc", Proxy: "h2", Result: fsm.StepIntent}}}},
	}
	for i, c := range append(cmds, more...) {
		b, err := fsm.Encode(c, "")
		if err != nil {
			t.Fatal(err)
		}
		if out := f.Apply(uint64(i+1), b).(fsm.Outcome); out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	return f
}

// goodOrder is what the leader asks h2 for after that.
func goodOrder() PowerRequest {
	return PowerRequest{Host: "h1", Action: fencing.ActionOff, Op: "f1", Step: 1, Term: 5}
}

func TestMayOrder(t *testing.T) {
	t.Parallel()
	step := func(term uint64, takeover bool, s fsm.FenceStep) fsm.Command {
		return &fsm.FenceAdvance{ID: "f1", Term: term, Takeover: takeover, Step: s}
	}
	over := step(6, true, fsm.FenceStep{Rung: RungTakeover, Result: fsm.StepOK})
	for _, tc := range []struct {
		name   string
		more   []fsm.Command
		self   string
		change func(*PowerRequest)
		want   error
	}{
		{"the intent is the last word", nil, "h2", nil, nil},
		{"another proxy", nil, "h3", nil, ErrOrderOver},
		{"another host", nil, "h2", func(r *PowerRequest) { r.Host = "h3" }, ErrOrderOver},
		{"another action", nil, "h2", func(r *PowerRequest) { r.Action = fencing.ActionOn }, ErrOrderOver},
		{"a reset", nil, "h2", func(r *PowerRequest) { r.Action = fencing.ActionReset }, ErrOrderOver},
		{"a step that is no intent", nil, "h2", func(r *PowerRequest) { r.Step = 0 }, ErrOrderOver},
		{"a step that is not there yet", nil, "h2", func(r *PowerRequest) { r.Step = 2 }, ErrOrderUnknown},
		{"an operation that is not there yet", nil, "h2", func(r *PowerRequest) { r.Op = "f2" }, ErrOrderUnknown},
		{"a newer term that did not take over yet", nil, "h2", func(r *PowerRequest) { r.Term = 6 }, ErrOrderUnknown},
		{"an older term", nil, "h2", func(r *PowerRequest) { r.Term = 4 }, ErrOrderOver},
		{"taken over since", []fsm.Command{over}, "h2", nil, ErrOrderOver},
		{"it went on", []fsm.Command{step(5, false, fsm.FenceStep{Rung: RungPower, Result: fsm.StepUnknown})}, "h2", nil, ErrOrderOver},
		{"it has ended", []fsm.Command{&fsm.FenceEnd{ID: "f1", Term: 5, Outcome: fsm.FenceAbandoned, Time: 2}}, "h2", nil, ErrOrderOver},
		{"the new leader's own intent", []fsm.Command{over, step(6, false, fsm.FenceStep{Rung: RungPower, Proxy: "h2", Result: fsm.StepIntent})}, "h2",
			func(r *PowerRequest) { r.Step, r.Term = 3, 6 }, nil},
		{"the old leader's order after the new leader's intent", []fsm.Command{over, step(6, false, fsm.FenceStep{Rung: RungPower, Proxy: "h2", Result: fsm.StepIntent})}, "h2",
			func(r *PowerRequest) { r.Step = 3 }, ErrOrderOver},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			req := goodOrder()
			if tc.change != nil {
				tc.change(&req)
			}
			if err := mayOrder(intended(t, tc.more...).View(), tc.self, req); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// slowAgent is a power switch whose off takes until its context ends.
type slowAgent struct {
	countingAgent
	began chan struct{}
}

func (s *slowAgent) Off(ctx context.Context, _ string) (fencing.Evidence, error) {
	close(s.began)
	<-ctx.Done()
	return fencing.Evidence{Kind: fencing.KindProcessExit}, nil // whatever it says then
}

// An order that is on its way when the operation goes on without it, or ends, is stopped, and what it comes to is no evidence.
func TestPowerProxy_stopsAnOrderThatIsOver(t *testing.T) {
	t.Parallel()
	for name, cmd := range map[string]fsm.Command{
		"taken over": &fsm.FenceAdvance{ID: "f1", Term: 6, Takeover: true, Step: fsm.FenceStep{Rung: RungTakeover, Result: fsm.StepOK}},
		"ended":      &fsm.FenceEnd{ID: "f1", Term: 5, Outcome: fsm.FenceAbandoned, Time: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, f := &slowAgent{began: make(chan struct{})}, intended(t)
				done := make(chan error, 1)
				go func() {
					rep, err := proxyOf(f, "h2", a).Power(t.Context(), goodOrder())
					if rep.Evidence.Kind != "" {
						err = errors.New("there is evidence")
					}
					done <- err
				}()
				<-a.began
				b, err := fsm.Encode(cmd, "")
				if err != nil {
					t.Fatal(err)
				}
				if out := f.Apply(99, b).(fsm.Outcome); out.Err() != nil {
					t.Fatal(out.Err())
				}
				begun := time.Now()
				if err := <-done; !errors.Is(err, errOrderStopped) || resultOf(err) != fsm.StepUnknown {
					t.Errorf("%v", err)
				}
				if took := time.Since(begun); took > time.Second {
					t.Errorf("stopped after %s", took)
				}
			})
		})
	}
}

// countingAgent is a power switch that counts.
type countingAgent struct{ offs, ons int }

func (*countingAgent) Status(context.Context, string) (fencing.State, error) { return fencing.On, nil }
func (c *countingAgent) Off(context.Context, string) (fencing.Evidence, error) {
	c.offs++
	return fencing.Evidence{Kind: fencing.KindProcessExit, Detail: "killed"}, nil
}
func (c *countingAgent) On(context.Context, string) error { c.ons++; return nil }

func proxyOf(f *fsm.FSM, self string, a fencing.Agent) *PowerProxy {
	return &PowerProxy{Host: self, View: f.View, Switches: AgentSwitches(a, func(string) bool { return true })}
}

func TestPowerProxy_ordersOnlyWhatIsIntended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &countingAgent{}
		f := intended(t)
		if rep, err := proxyOf(f, "h2", a).Power(t.Context(), goodOrder()); err != nil || rep.Evidence.Kind != fencing.KindProcessExit || a.offs != 1 {
			t.Fatalf("%+v, %v", rep, err)
		}
		begun := time.Now()
		unheard := goodOrder()
		unheard.Step = 2
		if _, err := proxyOf(f, "h2", a).Power(t.Context(), unheard); !errors.Is(err, ErrOrderUnknown) || time.Since(begun) > time.Second {
			t.Errorf("an intent that never comes: %v after %s", err, time.Since(begun))
		}
		if _, err := proxyOf(f, "h3", a).Power(t.Context(), goodOrder()); !errors.Is(err, ErrOrderOver) {
			t.Errorf("somebody else's order: %v", err)
		}
		if _, err := proxyOf(f, "h1", a).Power(t.Context(), goodOrder()); !errors.Is(err, ErrOwnPower) {
			t.Errorf("its own power: %v", err)
		}
		if rep, err := proxyOf(f, "h3", a).Power(t.Context(), PowerRequest{Host: "h1", Action: fencing.ActionStatus}); err != nil || rep.State != fencing.On {
			t.Errorf("a status needs no intent: %+v, %v", rep, err)
		}
		if a.offs != 1 || a.ons != 0 {
			t.Errorf("%+v", a)
		}
	})
}

// A proxy whose mirror is a moment behind waits for the intent.
func TestPowerProxy_waitsForItsMirror(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &countingAgent{}
		f := intended(t, &fsm.FenceAdvance{ID: "f1", Term: 5, Step: fsm.FenceStep{Rung: RungPower, Result: fsm.StepFailed}})
		req := goodOrder()
		req.Step = 3
		done := make(chan error, 1)
		go func() { _, err := proxyOf(f, "h2", a).Power(t.Context(), req); done <- err }()
		time.Sleep(100 * time.Millisecond)
		if a.offs != 0 {
			t.Fatal("it did not wait")
		}
		b, err := fsm.Encode(&fsm.FenceAdvance{ID: "f1", Term: 5, Step: fsm.FenceStep{Rung: RungPower, Proxy: "h2", Result: fsm.StepIntent}}, "")
		if err != nil {
			t.Fatal(err)
		}
		f.Apply(100, b)
		if err := <-done; err != nil || a.offs != 1 {
			t.Errorf("%v, %d offs", err, a.offs)
		}
	})
}

func TestPickProxies(t *testing.T) {
	t.Parallel()
	host := func(name string, rtt time.Duration, reachable bool) Host {
		return Host{Name: name, RTT: rtt, Reachable: reachable}
	}
	hosts := []Host{host("target", 1, false), host("leader", 0, true), host("slow", 9, true), host("quick", 2, true), host("lost", 1, false)}
	for _, tc := range []struct {
		name  string
		group Group
		want  []string
	}{
		{"by the time of their answers, the leader last", Group{}, []string{"quick", "slow", "leader"}},
		{"preferred ones first", Group{Prefer: []string{"slow", "lost"}}, []string{"slow", "quick", "leader"}},
		{"even the leader", Group{Prefer: []string{"leader"}}, []string{"leader", "quick", "slow"}},
		{"a local group by the leader", Group{Local: true}, []string{"leader", "quick", "slow"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := pickProxies(hosts, tc.group, "target", "leader")
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if c := checkers(got, got[0]); c[0] == got[0] || c[len(c)-1] != got[0] || len(c) != 3 {
				t.Errorf("the status is asked through %v after an off through %s", c, got[0])
			}
		})
	}
	if got := checkers([]string{"leader"}, "leader"); !slices.Equal(got, []string{"leader"}) {
		t.Errorf("nobody else: %v", got)
	}
}
