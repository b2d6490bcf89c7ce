package workload

import (
	"context"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// target draws a host for a role; empty: any.
func (w *worker) target() string {
	if w.chance(0.25) {
		return ""
	}
	return w.agent().name
}

// move moves the SPM role.
func (w *worker) move(ctx context.Context) {
	a, to := w.agent(), w.target()
	w.ask(ctx, history.Op{Kind: history.SPMMove, Key: to, Host: a.name}, history.MoveInput{To: to}, func(ctx context.Context) (answer, error) {
		got, err := a.api.MoveSPM(ctx, api.SPMMove{To: to, Reason: "workload"})
		return answer{out: history.MoveAnswer{Host: got.Host}, epoch: got.Epoch}, err
	})
}

// transfer makes another host lead the cluster.
func (w *worker) transfer(ctx context.Context) {
	a, to := w.agent(), w.target()
	w.ask(ctx, history.Op{Kind: history.RaftTransfer, Key: to, Host: a.name}, history.MoveInput{To: to}, func(ctx context.Context) (answer, error) {
		peers, err := a.api.TransferLeadership(ctx, api.RaftTransfer{To: to})
		var out history.MoveAnswer
		for _, p := range peers {
			if p.Leader {
				out.Host = p.Name
			}
		}
		return answer{out: out}, err
	})
}
