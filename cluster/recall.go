package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/fsm"
)

// Raft does not remember what was committed: a host that starts shows its last snapshot until a leader tells it, which may be never
// while the network is down. So the last entry that was applied is written down, and a start reads up to there. Only what is shown comes
// of it; raft applies the same entries again by itself.

// committedFile lies with raft's files, and goes when they go.
const committedFile = "committed"

// mark names an entry. Two logs that have an entry of the same index and term are the same up to it.
type mark struct{ index, term uint64 }

var markMagic = []byte("holdfast mark 1\n")

const markSize = 16 + 4*8

// encode writes the numbers twice, the second time inverted: the file is not synced, so after a power loss it may be anything.
func (m mark) encode() []byte {
	b := bytes.Clone(markMagic)
	for _, v := range []uint64{m.index, m.term, ^m.index, ^m.term} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func decodeMark(b []byte) (m mark, ok bool) {
	if len(b) != markSize || !bytes.HasPrefix(b, markMagic) {
		return mark{}, false
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[len(markMagic)+8*i:]) }
	m = mark{at(0), at(1)}
	return m, m.index == ^at(2) && m.term == ^at(3) && m.index > 0
}

// marking is the state machine, and the mark of what it applied last.
type marking struct {
	fsm.Raft
	marks *marks
}

type marks struct {
	mu   sync.Mutex // guards last
	last mark
}

func (k *marks) note(l *raft.Log) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = mark{l.Index, l.Term}
}

func (k *marks) get() mark {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// Apply applies one log entry.
func (m marking) Apply(l *raft.Log) any {
	m.marks.note(l)
	return m.Raft.Apply(l)
}

// ApplyBatch applies several entries. They are noted first: they are committed, and whoever is told that they are applied may look.
func (m marking) ApplyBatch(logs []*raft.Log) []any {
	if len(logs) > 0 {
		m.marks.note(logs[len(logs)-1])
	}
	return m.Raft.ApplyBatch(logs)
}

// marksLoop writes the mark down after each change. It does not sync: the end of the process loses nothing, and a power loss makes the
// mark old, which is no harm.
func (n *Node) marksLoop(ctx context.Context) {
	f, err := os.OpenFile(n.dir.file(filepath.Join(raftDir, committedFile)), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		n.log.Error("what is committed cannot be written down; after a start without a leader this host will show an older state", "error", err)
		return
	}
	defer f.Close()
	var written mark
	for {
		changed := n.fsm.Changed()
		if m := n.marks.get(); m != written {
			written = m
			if err := n.writeMark(ctx, f, m); err != nil && ctx.Err() == nil {
				n.log.Warn("what is committed cannot be written down", "error", err)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// writeMark returns when ctx ends, too: the disk may hang.
func (n *Node) writeMark(ctx context.Context, f *os.File, m mark) error {
	return n.await(ctx, func() error {
		_, err := f.WriteAt(m.encode(), 0)
		return err
	})
}

// recall reads the state that was last known to be committed, for those who look before a leader is heard. What cannot be read is no
// error: raft finds damage itself, and says what to do.
func (n *Node) recall() {
	st, err := n.recalledState()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		n.log.Warn("the last known state cannot be shown until a leader is heard", "error", err)
	default:
		n.recalled.Store(st)
	}
}

func (n *Node) recalledState() (*fsm.State, error) {
	b, err := os.ReadFile(n.dir.file(filepath.Join(raftDir, committedFile)))
	if err != nil {
		return nil, err
	}
	m, ok := decodeMark(b)
	if !ok {
		return nil, fmt.Errorf("%s is not whole", committedFile)
	}
	machine := fsm.New()
	from, err := restoreNewest(n.stores.Snapshot, machine)
	if err != nil || from >= m.index {
		return machine.View(), err
	}
	if err := replay(n.stores.Log, machine, from, m); err != nil {
		return nil, err
	}
	return machine.View(), nil
}

// restoreNewest reads the snapshot that raft will begin with; without one the index is zero.
func restoreNewest(snaps raft.SnapshotStore, machine *fsm.FSM) (index uint64, err error) {
	list, err := snaps.List()
	if err != nil {
		return 0, fmt.Errorf("listing raft's snapshots: %w", err)
	}
	for _, s := range list {
		var meta *raft.SnapshotMeta
		meta, r, oerr := snaps.Open(s.ID)
		if oerr == nil {
			oerr = fsm.Raft{FSM: machine}.Restore(r)
		}
		if oerr == nil {
			return meta.Index, nil
		}
		err = errors.Join(err, oerr)
	}
	return 0, err
}

// replayBatch is how many entries are applied at once.
const replayBatch = 256

// replay applies the entries after from up to the mark.
func replay(log raft.LogStore, machine *fsm.FSM, from uint64, to mark) error {
	batch := make([]*raft.Log, 0, replayBatch)
	for i := from + 1; i <= to.index; i++ {
		l := new(raft.Log)
		if err := log.GetLog(i, l); err != nil {
			return fmt.Errorf("reading entry %d of raft's log: %w", i, err)
		}
		if i == to.index && l.Term != to.term {
			return fmt.Errorf("entry %d of raft's log is of term %d, and was of term %d when it was committed", i, l.Term, to.term)
		}
		if batch = append(batch, l); len(batch) == replayBatch || i == to.index {
			fsm.Raft{FSM: machine}.ApplyBatch(batch)
			batch = batch[:0]
		}
	}
	return nil
}
