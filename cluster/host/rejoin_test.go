package host

import (
	"context"
	"testing"

	"github.com/holdfast-io/holdfast/fsm"
)

// replay is the mirror of a host that catches up: one more command at each look.
type replay struct {
	t    *testing.T
	f    *fsm.FSM
	cmds []fsm.Command
	at   uint64
}

func (r *replay) Changed() <-chan struct{} { ch := make(chan struct{}); close(ch); return ch }

func (r *replay) View() *fsm.State {
	if int(r.at) < len(r.cmds) {
		b, err := fsm.Encode(r.cmds[r.at], "")
		if err != nil {
			r.t.Fatal(err)
		}
		r.at++
		if out, ok := r.f.Apply(r.at, b).(fsm.Outcome); !ok || out.Err() != nil {
			r.t.Fatalf("command %d: %+v", r.at, out)
		}
	}
	return r.f.View()
}

// A host that joins again under its name sees itself as it was, with its old host id, while its mirror catches up. Whoever
// used that would write under the id of somebody else.
func TestAwaitPool_rejoinedHostWaitsForItsNewID(t *testing.T) {
	t.Parallel()
	any := fsm.ProtocolRange{Min: fsm.MinVersion, Max: fsm.MaxVersion}
	joins := func(token string) []fsm.Command {
		return []fsm.Command{
			&fsm.TokenCreate{Token: fsm.Token{ID: token, Role: fsm.TokenJoin, SecretHash: "h", Expires: 1000}},
			&fsm.HostJoin{Host: fsm.Host{Name: "b", Protocol: any}, TokenID: token, Time: 1},
		}
	}
	r := &replay{t: t, f: fsm.New(), cmds: []fsm.Command{
		&fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: fsm.MaxVersion, Host: fsm.Host{Name: "a", Protocol: any}, Time: 1},
		&fsm.PoolCreate{Pool: fsm.Pool{ID: "p", Name: "p", Master: "d", Profile: "dev"}},
		&fsm.DomainPut{Domain: fsm.Domain{ID: "d", Name: "d"}},
	}}
	r.cmds = append(r.cmds, joins("t1")...)
	r.cmds = append(r.cmds, &fsm.HostRemove{Name: "b", Proof: &fsm.Proof{Kind: fsm.ProofDead, Host: "b", HostID: 2}})
	r.cmds = append(r.cmds, joins("t2")...)
	self, _, err := awaitPool(context.Background(), r, "b", 3)
	if err != nil || self.HostID != 3 {
		t.Errorf("it takes itself for %+v, %v", self, err)
	}
}
