package cluster

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/cluster/raftlog"
)

// logWatch notices a write to raft's files that does not come back. Raft's leader keeps sending heartbeats while its log
// write hangs, so without help nobody else is ever elected.
type logWatch struct {
	limit    time.Duration
	onChange func(hung bool) // called in order, never twice at the same time

	mu   sync.Mutex // guards the fields below, and is held during onChange
	hung int        // writes that are over the limit and still not back
}

// begin notes the start of a write. The caller calls the returned function when the write is back.
func (w *logWatch) begin() (end func()) {
	var late bool // guarded by w.mu
	var done bool
	timer := time.AfterFunc(w.limit, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if done {
			return
		}
		late = true
		if w.hung++; w.hung == 1 {
			w.onChange(true)
		}
	})
	return func() {
		if timer.Stop() {
			return // it never fired and never will
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		done = true
		if !late {
			return
		}
		if w.hung--; w.hung == 0 {
			w.onChange(false)
		}
	}
}

// watchedLog is a LogStore whose writes are watched, and that gives no damaged entry to raft.
type watchedLog struct {
	raft.LogStore
	watch    *logWatch
	onDamage func(error)
}

// GetLog reads one entry. Raft ends the process when it cannot read one that it needs. So a damaged one is reported
// first, and whoever is told may keep the reader from going on.
func (s watchedLog) GetLog(index uint64, l *raft.Log) error {
	err := s.LogStore.GetLog(index, l)
	var d *raftlog.DamagedError
	if errors.As(err, &d) {
		s.onDamage(err)
	}
	return err
}

// StoreLog writes one entry.
func (s watchedLog) StoreLog(l *raft.Log) error {
	defer s.watch.begin()()
	return s.LogStore.StoreLog(l)
}

// StoreLogs writes entries.
func (s watchedLog) StoreLogs(l []*raft.Log) error {
	defer s.watch.begin()()
	return s.LogStore.StoreLogs(l)
}

// DeleteRange drops entries.
func (s watchedLog) DeleteRange(first, last uint64) error {
	defer s.watch.begin()()
	return s.LogStore.DeleteRange(first, last)
}

// watchedStable is a StableStore whose writes are watched.
type watchedStable struct {
	raft.StableStore
	watch *logWatch
}

// Set writes a value.
func (s watchedStable) Set(key, value []byte) error {
	defer s.watch.begin()()
	return s.StableStore.Set(key, value)
}

// SetUint64 writes a number.
func (s watchedStable) SetUint64(key []byte, value uint64) error {
	defer s.watch.begin()()
	return s.StableStore.SetUint64(key, value)
}
