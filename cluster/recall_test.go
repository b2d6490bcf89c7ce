package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// shows waits until a host shows an entry.
func (w *world) shows(name, key, value string) {
	w.t.Helper()
	w.until(10*time.Second, name+" shows "+value, func() error {
		if v, _ := w.hosts[name].node.View().Config.Get(key); v != value {
			return fmt.Errorf("it shows %q", v)
		}
		return nil
	})
}

func (w *world) markFile(name string) string {
	return filepath.Join(w.hosts[name].cfg.DataDir, subDir, raftDir, committedFile)
}

// A host that starts and hears from nobody shows what it showed before, with an age that says how little it knows.
func TestNode_recall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		for i := range 700 { // more than one batch
			w.mustApply(w.leader().node, set("recall", strconv.Itoa(i)))
		}
		down := w.follower().cfg.Name
		w.shows(down, "recall", "699")
		time.Sleep(time.Second)
		if err := w.hosts[down].stop(); err != nil {
			t.Fatal(err)
		}
		w.net.Cut(down, true)
		n := w.restart(down, nil)
		if v, _ := n.View().Config.Get("recall"); v != "699" {
			t.Errorf("it showed entry 699 before its start, and %q after it", v)
		}
		if _, caughtUp := n.Age(); caughtUp {
			t.Error("it says that it is caught up")
		}
		w.mustApply(w.leader(down).node, set("recall", "next"))
		w.net.Cut(down, false)
		w.shows(down, "recall", "next")
		if n.recalled.Load() != nil {
			t.Error("the state from before the start is kept for ever")
		}
	})
}

// The same with a snapshot: the entries after it are read from the log.
func TestNode_recall_snapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		down := w.follower()
		for i := range 20 {
			w.mustApply(w.leader().node, set("recall", strconv.Itoa(i)))
		}
		w.shows(down.cfg.Name, "recall", "19")
		if err := down.node.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		w.mustApply(w.leader().node, set("recall", "20"))
		w.shows(down.cfg.Name, "recall", "20")
		time.Sleep(time.Second)
		w.net.Cut(down.cfg.Name, true)
		n := w.restart(down.cfg.Name, nil)
		if v, _ := n.View().Config.Get("recall"); v != "20" {
			t.Errorf("it shows %q after its start", v)
		}
	})
}

// A mark that is not whole, or of a log that says otherwise, shows nothing; the host starts all the same.
func TestNode_recall_bad(t *testing.T) {
	t.Parallel()
	marks := map[string]func(good []byte) []byte{
		"cut short":     func(b []byte) []byte { return b[:len(b)-1] },
		"empty":         func([]byte) []byte { return nil },
		"a bit flipped": func(b []byte) []byte { b[20] ^= 1; return b },
		"another term": func(b []byte) []byte {
			m, _ := decodeMark(b)
			m.term++
			return m.encode()
		},
		"beyond the log": func(b []byte) []byte {
			m, _ := decodeMark(b)
			m.index += 100
			return m.encode()
		},
	}
	for name, spoil := range marks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := three(t)
				defer w.close()
				w.mustApply(w.leader().node, set("recall", "1"))
				down := w.follower().cfg.Name
				w.shows(down, "recall", "1")
				time.Sleep(time.Second)
				if err := w.hosts[down].stop(); err != nil {
					t.Fatal(err)
				}
				good, err := os.ReadFile(w.markFile(down))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(w.markFile(down), spoil(good), 0o600); err != nil {
					t.Fatal(err)
				}
				w.net.Cut(down, true)
				n := w.restart(down, nil)
				if n.View().Initialised() {
					t.Error("it shows a state of a mark that cannot be believed")
				}
				w.net.Cut(down, false)
				w.shows(down, "recall", "1")
			})
		})
	}
}

// An entry that was never committed is not shown, though it is in the log.
func TestNode_recall_notCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.close()
		w.mustApply(w.leader().node, set("recall", "committed"))
		lead := w.leader()
		w.shows(lead.cfg.Name, "recall", "committed")
		time.Sleep(time.Second)
		w.net.Cut(lead.cfg.Name, true)
		last, err := lead.stores.log.LastIndex()
		if err != nil {
			t.Fatal(err)
		}
		entry := new(raft.Log)
		if err := lead.stores.log.GetLog(last, entry); err != nil {
			t.Fatal(err)
		}
		if err := lead.stop(); err != nil {
			t.Fatal(err)
		}
		entry.Index++
		if err := lead.stores.log.StoreLog(entry); err != nil {
			t.Fatal(err)
		}
		n := w.restart(lead.cfg.Name, nil)
		if v := n.View(); v.Index > last {
			t.Errorf("it shows entry %d of its log, and %d was the last that was committed", v.Index, last)
		} else if s, _ := v.Config.Get("recall"); s != "committed" {
			t.Errorf("it shows %q", s)
		}
	})
}

// Every bit that is wrong is noticed.
func TestMark(t *testing.T) {
	t.Parallel()
	for _, m := range []mark{{1, 0}, {1, 1}, {1 << 40, 7}, {^uint64(0), ^uint64(0)}} {
		if got, ok := decodeMark(m.encode()); !ok || got != m {
			t.Errorf("%v became %v, %v", m, got, ok)
		}
		for bit := range 8 * markSize {
			b := m.encode()
			b[bit/8] ^= 1 << (bit % 8)
			if got, ok := decodeMark(b); ok {
				t.Errorf("%v with bit %d wrong is %v", m, bit, got)
			}
		}
	}
}

func FuzzDecodeMark(f *testing.F) {
	f.Add(mark{5, 2}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := decodeMark(b); ok && string(m.encode()) != string(b) {
			t.Error(errors.New("it is not written as it was read"), m)
		}
	})
}
