package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/cluster/raftlog"
	"github.com/holdfast-io/holdfast/cluster/transport/memnet"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/internal/clock"
)

// testLog writes to the test's output when HOLDFAST_TEST_LOG is set; raft is too talkative otherwise.
func testLog() *slog.Logger {
	if os.Getenv("HOLDFAST_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// memStores keeps raft's files in memory over restarts, and can make writes hang.
type memStores struct {
	log  *hangingLog
	snap *raft.InmemSnapshotStore
}

func newMemStores() *memStores {
	return &memStores{&hangingLog{InmemStore: raft.NewInmemStore()}, raft.NewInmemSnapshotStore()}
}

func (m *memStores) open(string, *slog.Logger) (Stores, error) {
	return Stores{Log: m.log, Stable: m.log.InmemStore, Snapshot: m.snap, Closer: io.NopCloser(nil)}, nil
}

// hangingLog is a log whose writes hang while gate is set.
type hangingLog struct {
	*raft.InmemStore
	mu   sync.Mutex // guards what follows
	gate chan struct{}
	full bool
	bad  map[uint64]int // reads of an entry that are left until it is damaged
}

// GetLog reads an entry, or finds it damaged.
func (h *hangingLog) GetLog(index uint64, l *raft.Log) error {
	h.mu.Lock()
	left, is := h.bad[index]
	if is && left > 0 {
		h.bad[index]--
	}
	h.mu.Unlock()
	if is && left == 0 {
		return &raftlog.DamagedError{Path: "log.db", What: "planted"}
	}
	return h.InmemStore.GetLog(index, l)
}

// damage makes an entry unreadable after so many reads.
func (h *hangingLog) damage(index uint64, after int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bad = map[uint64]int{index: after}
}

func (h *hangingLog) hang() (release func()) {
	gate := make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate = gate
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gate = nil
		close(gate)
	}
}

// fill leaves no space for entries.
func (h *hangingLog) fill() (free func()) {
	set := func(full bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.full = full
	}
	set(true)
	return func() { set(false) }
}

// wait is for the disk to take a write, or not.
func (h *hangingLog) wait() error {
	h.mu.Lock()
	gate, full := h.gate, h.full
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if full {
		return syscall.ENOSPC
	}
	return nil
}

func (h *hangingLog) StoreLog(l *raft.Log) error { return h.StoreLogs([]*raft.Log{l}) }

func (h *hangingLog) StoreLogs(l []*raft.Log) error {
	if err := h.wait(); err != nil {
		return err
	}
	return h.InmemStore.StoreLogs(l)
}

// world is a cluster in one process, inside a synctest bubble.
type world struct {
	t     *testing.T
	net   *memnet.Net
	clock *clock.Virtual
	hosts map[string]*worldHost
}

type worldHost struct {
	cfg    Config
	stores *memStores
	node   *Node
	stop   func() error
}

func newWorld(t *testing.T) *world {
	return &world{t: t, net: memnet.New(), clock: &clock.Virtual{Start: time.Now()}, hosts: map[string]*worldHost{}}
}

func (w *world) config(name string) *worldHost {
	h := &worldHost{stores: newMemStores()}
	h.cfg = Config{
		Name: name, DataDir: w.t.TempDir(), ClusterAddr: name + ":7000", HTTPAddr: name + ":80",
		Network: w.net.Host(name), Stores: h.stores.open, Log: testLog(), Clock: w.clock,
	}
	w.hosts[name] = h
	return h
}

func (w *world) run(h *worldHost, node *Node) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	h.node = node
	h.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	return node
}

// first makes the cluster.
func (w *world) first(name string) *Node {
	h := w.config(name)
	n, err := Bootstrap(context.Background(), h.cfg, "test")
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(h, n)
}

// join lets a further host in through another one.
func (w *world) join(name, through string) *Node {
	_, text, err := w.hosts[through].node.CreateToken(context.Background(), fsm.TokenJoin, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	h := w.config(name)
	n, err := Join(context.Background(), h.cfg, through+":7000", text)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(h, n)
}

// restart stops a host and opens it again on what it stored.
func (w *world) restart(name string, change func(*Config)) *Node {
	h := w.hosts[name]
	if err := h.stop(); err != nil {
		w.t.Fatal(err)
	}
	if change != nil {
		change(&h.cfg)
	}
	n, err := Open(context.Background(), h.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(h, n)
}

func (w *world) close() {
	for _, h := range w.hosts {
		if err := h.stop(); err != nil {
			w.t.Errorf("host %s: %v", h.cfg.Name, err)
		}
	}
	time.Sleep(10 * time.Minute) // fake time: lets every connection and timer end
	synctest.Wait()
}

// until waits, in fake time, for a condition.
func (w *world) until(limit time.Duration, what string, cond func() error) {
	w.t.Helper()
	end := time.Now().Add(limit)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) leader(except ...string) *worldHost {
	w.t.Helper()
	var found *worldHost
	w.until(10*time.Second, "a leader", func() error {
		for name, h := range w.hosts {
			if contains(except, name) || !h.node.IsLeader() {
				continue
			}
			found = h
			return nil
		}
		return errors.New("none leads")
	})
	return found
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// voters waits until every host of the list has a vote.
func (w *world) voters(names ...string) {
	w.t.Helper()
	w.until(20*time.Second, "votes", func() error {
		peers, err := w.leader().node.RaftPeers()
		if err != nil {
			return err
		}
		n := 0
		for _, p := range peers {
			if p.Voter && contains(names, p.Name) {
				n++
			}
		}
		if n != len(names) || len(peers) != len(names) {
			return fmt.Errorf("peers are %v", peers)
		}
		return nil
	})
}

// three makes a cluster of a, b and c in which all vote.
func three(t *testing.T) *world {
	w := newWorld(t)
	w.first("a")
	w.join("b", "a")
	w.join("c", "b")
	w.voters("a", "b", "c")
	return w
}

func set(key, value string) *fsm.ConfigSet { return &fsm.ConfigSet{Key: key, Value: value} }

func (w *world) mustApply(n *Node, cmd fsm.Command) fsm.Outcome {
	w.t.Helper()
	out, err := n.Apply(context.Background(), cmd)
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		w.t.Fatalf("applying on %s: %v", n.Name(), err)
	}
	return out
}
