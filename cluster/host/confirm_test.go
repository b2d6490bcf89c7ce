package host

import (
	"context"
	"errors"
	"testing"

	"github.com/holdfast-io/holdfast/fsm"
)

// lateMirror is a host whose mirror is behind: what was committed shows only to who waits for its index.
type lateMirror struct {
	clusterNode
	t      *testing.T
	now    *fsm.FSM
	before *fsm.State
	index  uint64
	err    error
	marks  map[string]bool
}

func (l *lateMirror) commit(cmd fsm.Command) fsm.Outcome {
	b, err := fsm.Encode(cmd, "")
	if err != nil {
		l.t.Fatal(err)
	}
	l.index++
	out, ok := l.now.Apply(l.index, b).(fsm.Outcome)
	if !ok {
		l.t.Fatalf("command %d", l.index)
	}
	out.Index = l.index
	return out
}

func (l *lateMirror) View() *fsm.State { return l.before }

func (l *lateMirror) Apply(_ context.Context, cmd fsm.Command) (fsm.Outcome, error) {
	if l.err != nil {
		return fsm.Outcome{}, l.err
	}
	if c, ok := cmd.(*fsm.ConfigSet); ok && c.Key == fsm.ConfigMasterConfirmed {
		l.marks[c.Value] = true
	}
	return l.commit(cmd), nil
}

func (l *lateMirror) WaitIndex(_ context.Context, index uint64) (*fsm.State, error) {
	if index != l.index {
		l.t.Errorf("it waits for %d, the mark is %d", index, l.index)
	}
	return l.now.View(), nil
}

// What is confirmed is what the cluster has once it has the mark, not what this host's mirror happened to say; each question leaves another
// mark, which a reconstruction that looked before it runs into.
func TestMasters_Confirm(t *testing.T) {
	t.Parallel()
	l := &lateMirror{t: t, now: fsm.New(), marks: map[string]bool{}}
	any := fsm.ProtocolRange{Min: fsm.MinVersion, Max: fsm.MaxVersion}
	for _, cmd := range []fsm.Command{
		&fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: fsm.MaxVersion, Host: fsm.Host{Name: "a", Protocol: any}, Time: 1},
		&fsm.PoolCreate{Pool: fsm.Pool{ID: "p", Name: "p", Master: "d", Profile: "dev"}},
		&fsm.DomainPut{Domain: fsm.Domain{ID: "d", Name: "d"}},
		&fsm.DomainPut{Domain: fsm.Domain{ID: "e", Name: "e"}},
	} {
		if out := l.commit(cmd); out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	l.before = l.now.View()
	m := masters{&runtime{node: l, self: fsm.Host{Name: "a"}, poolID: "p"}}
	if rec, err := m.Confirm(t.Context()); err != nil || rec.Domain != "d" || rec.Version != 0 {
		t.Fatalf("%+v, %v", rec, err)
	}
	abandon := &fsm.PoolMaster{Pool: "p", Master: "e", Expect: "d", MasterVersion: 2, Abandoned: true, Time: 2}
	if out := l.commit(abandon); !errors.Is(out.Err(), fsm.ErrConflict) {
		t.Errorf("the master is given up by what was seen before the question: %v", out.Err())
	}
	abandon.Confirmed, _ = l.now.View().Config.Get(fsm.ConfigMasterConfirmed)
	if out := l.commit(abandon); out.Err() != nil {
		t.Fatal(out.Err())
	}
	if rec, err := m.Confirm(t.Context()); err != nil || rec.Domain != "e" || rec.Version != 2 || len(l.marks) != 2 {
		t.Errorf("%+v, %v, marks %v; the mirror still says %d", rec, err, l.marks, m.Version())
	}
	l.err = errors.New("no leader")
	if _, err := m.Confirm(t.Context()); !errors.Is(err, l.err) {
		t.Errorf("without a leader: %v", err)
	}
}
