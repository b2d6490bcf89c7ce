package attach

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

// fakeQEMU is a guest's QEMU on a unix socket: one that writes when it is told to, and is paused when that does not fit.
type fakeQEMU struct {
	t    *testing.T
	path string
	wg   sync.WaitGroup

	mu        sync.Mutex // guards what follows
	listen    net.Listener
	conns     []net.Conn
	high      int64
	threshold int64
	paused    bool
	nodes     []string // whose threshold was set
	done      []string // commands other than questions
}

func newFakeQEMU(t *testing.T) *fakeQEMU {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-qmp-") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	q := &fakeQEMU{t: t, path: filepath.Join(dir, "s")}
	t.Cleanup(func() { q.stop(); _ = os.RemoveAll(dir) })
	return q
}

func (q *fakeQEMU) start() {
	q.t.Helper()
	l, err := net.Listen("unix", q.path)
	if err != nil {
		q.t.Fatal(err)
	}
	q.mu.Lock()
	q.listen = l
	q.mu.Unlock()
	q.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			q.mu.Lock()
			q.conns = append(q.conns, c)
			q.mu.Unlock()
			q.wg.Go(func() { q.serve(c) })
		}
	})
}

func (q *fakeQEMU) stop() {
	q.mu.Lock()
	if q.listen != nil {
		_ = q.listen.Close()
	}
	for _, c := range q.conns {
		_ = c.Close()
	}
	q.listen, q.conns = nil, nil
	q.mu.Unlock()
	q.wg.Wait()
}

func (q *fakeQEMU) serve(c net.Conn) {
	_, _ = fmt.Fprintln(c, `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "x"}, "capabilities": []}}`)
	for in := bufio.NewScanner(c); in.Scan(); {
		var x struct {
			Execute   string         `json:"execute"`
			Arguments map[string]any `json:"arguments"`
			ID        uint64         `json:"id"`
		}
		if json.Unmarshal(in.Bytes(), &x) != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "{\"return\": %s, \"id\": %d}\n", q.answer(x.Execute, x.Arguments), x.ID)
	}
}

func (q *fakeQEMU) answer(what string, args map[string]any) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	status, io := "running", "ok"
	if q.paused {
		status, io = "io-error", "nospace"
	}
	switch what {
	case "query-blockstats":
		return fmt.Sprintf(`[{"node-name": "top", "parent": {"node-name": %[1]q}, "stats": {}}, {"node-name": %[1]q, "stats": {"wr_highest_offset": %[2]d}}, `+
			`{"node-name": "mine", "stats": {"wr_highest_offset": %[2]d}}]`, deviceNode(leaf), q.high)
	case "query-block":
		return fmt.Sprintf(`[{"io-status": %q, "inserted": {"node-name": "top"}}]`, io)
	case "query-status":
		return fmt.Sprintf(`{"status": %q}`, status)
	case "block-set-write-threshold":
		q.threshold = int64(args["write-threshold"].(float64))
		q.nodes = append(q.nodes, args["node-name"].(string))
	case "cont":
		q.paused = false
		fallthrough
	default:
		q.done = append(q.done, what)
	}
	return "{}"
}

// write is the guest's; room is what the device has.
func (q *fakeQEMU) write(end, room int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	event := ""
	switch {
	case end > room:
		q.paused = true
		event = `{"event": "BLOCK_IO_ERROR", "data": {"device": "", "node-name": "top", "operation": "write", "action": "stop", "nospace": true, "reason": "No space left on device"}}`
	case q.threshold > 0 && end > q.threshold:
		event = fmt.Sprintf(`{"event": "BLOCK_WRITE_THRESHOLD", "data": {"node-name": %q, "amount-exceeded": %d, "write-threshold": %d}}`, deviceNode(leaf), end-q.threshold, q.threshold)
		q.threshold = 0
	}
	if end <= room {
		q.high = max(q.high, end)
	}
	for _, c := range q.conns {
		if event != "" {
			_, _ = fmt.Fprintln(c, event)
		}
	}
}

// has waits for something to be so.
func (q *fakeQEMU) has(what string, is func() bool) {
	q.t.Helper()
	testutil.Retry(q.t, 30*time.Second, func() error {
		q.mu.Lock()
		defer q.mu.Unlock()
		if !is() {
			return fmt.Errorf("%s: written %d, threshold %d of %v, paused %t, %v", what, q.high, q.threshold, q.nodes, q.paused, q.done)
		}
		return nil
	})
}

// giving is an SPM that gives what is asked for.
type giving struct{ w *world }

func (g giving) Extend(_ context.Context, _, volume string, size int64) error {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	v := g.w.vols[volume]
	v.Segments = []Segment{{"/dev/lun", 0, size}}
	g.w.vols[volume] = v
	return nil
}

func attachQMP(q *fakeQEMU) Request {
	r := req(leaf)
	r.QMP = QMP{Socket: q.path}
	return r
}

// The guest is started after the attach; its QEMU says how far the volume is written, and that it was paused. The record outlives the
// agent, and a QEMU that starts again is watched again.
func TestManager_qmp(t *testing.T) {
	t.Parallel()
	w, dir, q := newWorld(t), t.TempDir(), newFakeQEMU(t)
	a := w.start("h1", dir, giving{w})
	defer func() { a.kill() }()
	at, err := a.Attach(t.Context(), attachQMP(q))
	if err != nil || at.QMP.Socket != q.path || at.Watched || at.QMPProblem == "" {
		t.Fatalf("%+v, %v", at, err)
	}
	q.start()
	threshold := func(of int64) func() bool {
		return func() bool { return q.threshold == of-DefaultGrowth().Threshold() }
	}
	q.has("the threshold is set", threshold(5*gib/2))
	if l := a.List(); !l[0].Watched || l[0].QMPProblem != "" {
		t.Errorf("%+v", l[0])
	}
	q.write(gib, 5*gib/2)
	q.has("it grew, and the threshold moved", threshold(5*gib))
	q.write(6*gib, 5*gib)
	q.has("it grew again, and the guest goes on", func() bool { return !q.paused && q.threshold > 5*gib })
	// Another agent finds it by the record; another QEMU comes later.
	q.stop()
	a.kill()
	a = w.start("h1", dir, giving{w})
	q.mu.Lock()
	q.threshold, q.high = 0, 0
	q.mu.Unlock()
	q.start()
	q.has("watched by the next agent", func() bool { return q.threshold > 0 })
	// Another socket, and a node of the person's own.
	other := newFakeQEMU(t)
	other.start()
	r := attachQMP(other)
	r.QMP.Node = "mine"
	for range 2 {
		if at, err := a.Attach(t.Context(), r); err != nil || at.QMP != r.QMP {
			t.Errorf("%+v, %v", at.QMP, err)
		}
	}
	other.has("the new one is watched", func() bool { return len(other.nodes) > 0 && other.nodes[0] == "mine" })
	if at, err := a.Attach(t.Context(), req(leaf)); err != nil || at.QMP != r.QMP {
		t.Errorf("attached once more without one: %+v, %v", at.QMP, err)
	}
	if err := a.Detach(t.Context(), req(leaf)); err != nil {
		t.Error(err)
	}
	if len(a.guests.open) != 0 {
		t.Errorf("connections that are left: %v", a.guests.open)
	}
	w.check()
}

func TestManager_qmp_refused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.start("h1", t.TempDir(), nil)
	defer a.kill()
	for name, q := range map[string]QMP{"relative": {Socket: "s"}, "node alone": {Node: "n"}, "too long": {Socket: "/" + strings.Repeat("x", 120)},
		"long node": {Socket: "/s", Node: strings.Repeat("n", 32)}} {
		if _, err := a.Attach(t.Context(), Request{Domain: dom, Volume: leaf, QMP: q}); !errors.Is(err, ErrQMP) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Attach(t.Context(), Request{Domain: dom, Volume: leaf, ReadOnly: true, QMP: QMP{Socket: "/s"}}); !errors.Is(err, ErrQMP) {
		t.Errorf("read-only: %v", err)
	}
	if _, err := a.Attach(t.Context(), Request{Domain: dom, Volume: leaf, Mapper: "odd"}); !errors.Is(err, ErrMapper) {
		t.Errorf("mapper: %v", err)
	}
	if p, l := w.left("h1"); p+l != 0 {
		t.Errorf("left: %d, %d", p, l)
	}
}
