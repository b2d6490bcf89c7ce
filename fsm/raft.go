package fsm

import (
	"io"

	"github.com/hashicorp/raft"
)

// Raft is the state machine as raft wants it. Responses are of type Outcome.
type Raft struct{ *FSM }

var (
	_ raft.BatchingFSM = Raft{}
	_ raft.FSMSnapshot = raftSnapshot{}
)

// Apply applies one log entry.
func (r Raft) Apply(l *raft.Log) any { return r.FSM.Apply(l.Index, l.Data) }

// ApplyBatch applies several entries and makes them visible at once. Entries that are not commands get a nil response.
func (r Raft) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	entries := make([]Entry, 0, len(logs))
	places := make([]int, 0, len(logs))
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			entries = append(entries, Entry{Index: l.Index, Data: l.Data})
			places = append(places, i)
		}
	}
	for i, out := range r.FSM.ApplyBatch(entries) {
		responses[places[i]] = out
	}
	return responses
}

// Snapshot freezes the state for raft.
func (r Raft) Snapshot() (raft.FSMSnapshot, error) {
	s, err := r.FSM.Snapshot()
	if err != nil {
		return nil, err
	}
	return raftSnapshot{s}, nil
}

// Restore replaces the state by a snapshot's.
func (r Raft) Restore(src io.ReadCloser) error {
	defer src.Close()
	return r.FSM.Restore(src)
}

type raftSnapshot struct{ *Snapshot }

// Persist writes the snapshot to raft's sink.
func (s raftSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.WriteTo(sink); err != nil {
		_ = sink.Cancel() // the write error says more
		return err
	}
	return sink.Close()
}

// Release does nothing: the frozen tables are garbage once nobody holds them.
func (s raftSnapshot) Release() {}
