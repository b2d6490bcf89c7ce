package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"testing"
)

const hello = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "x"}, "capabilities": ["oob"]}}` + "\n"

// fakeQEMU answers like QEMU does, with one volume on the node "dev" under "fmt".
type fakeQEMU struct {
	t testing.TB

	mu        sync.Mutex // guards what follows
	nc        net.Conn
	high      int64
	threshold int64
	status    string // of the guest
	ioStatus  string
	seen      []string // commands
	silent    bool     // does not answer any more
	room      int64    // what the device has
	serving   sync.WaitGroup
}

func newFake(t testing.TB) *fakeQEMU {
	return &fakeQEMU{t: t, status: "running", ioStatus: "ok"}
}

// dial is a connection to it. An earlier one is gone.
func (f *fakeQEMU) dial(ctx context.Context) (*Conn, error) {
	ours, theirs := net.Pipe()
	f.mu.Lock()
	f.nc, f.threshold = theirs, 0
	f.mu.Unlock()
	f.serving.Go(func() { f.serve(theirs) })
	return handshake(ctx, ours)
}

func (f *fakeQEMU) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nc.Close()
}

func (f *fakeQEMU) serve(nc net.Conn) {
	defer nc.Close()
	if _, err := nc.Write([]byte(hello)); err != nil {
		return
	}
	r := bufio.NewReader(nc)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		var c struct {
			Execute   string                     `json:"execute"`
			Arguments map[string]json.RawMessage `json:"arguments"`
			ID        uint64                     `json:"id"`
		}
		if err := json.Unmarshal(line, &c); err != nil {
			f.t.Errorf("%s: %v", line, err)
			return
		}
		out, silent := f.answer(c.Execute, c.Arguments)
		if silent {
			continue
		}
		if _, err := fmt.Fprintf(nc, "%s, \"id\": %d}\n", out, c.ID); err != nil {
			return
		}
	}
}

func (f *fakeQEMU) answer(name string, args map[string]json.RawMessage) (out string, silent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, name)
	switch name {
	case "query-blockstats":
		return fmt.Sprintf(`{"return": [{"node-name": "other", "stats": {"wr_highest_offset": 7}}, {"node-name": "dev", "stats": {"wr_highest_offset": %d}}]`, f.high), f.silent
	case "query-block":
		return fmt.Sprintf(`{"return": [{"io-status": "ok"}, {"io-status": %q, "inserted": {"node-name": "fmt"}}]`, f.ioStatus), f.silent
	case "query-status":
		return fmt.Sprintf(`{"return": {"status": %q}`, f.status), f.silent
	case "cont":
		f.status, f.ioStatus = "running", "ok"
	case "block-set-write-threshold":
		_ = json.Unmarshal(args["write-threshold"], &f.threshold)
	case "qmp_capabilities":
	default:
		return `{"error": {"class": "CommandNotFound", "desc": "The command has not been found"}`, f.silent
	}
	return `{"return": {}`, f.silent
}

// write is the guest's: QEMU tells when it passes the threshold, once, and pauses the guest when it does not fit.
func (f *fakeQEMU) write(end int64) {
	f.mu.Lock()
	nc, event := f.nc, ""
	switch {
	case end > f.room:
		f.status, f.ioStatus = "io-error", "nospace"
		event = `{"event": "BLOCK_IO_ERROR", "data": {"device": "", "node-name": "fmt", "operation": "write", "action": "stop", "nospace": true, "reason": "No space left on device"}}`
	case f.threshold > 0 && end > f.threshold:
		event = fmt.Sprintf(`{"event": "BLOCK_WRITE_THRESHOLD", "data": {"node-name": "dev", "amount-exceeded": %d, "write-threshold": %d}}`, end-f.threshold, f.threshold)
		f.threshold = 0
		fallthrough
	default:
		f.high = max(f.high, end)
	}
	f.mu.Unlock()
	if event != "" {
		if _, err := fmt.Fprintln(nc, event); err != nil {
			f.t.Error(err)
		}
	}
}

func (f *fakeQEMU) count(name string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seen {
		if s == name {
			n++
		}
	}
	return n
}

func (f *fakeQEMU) state() (threshold int64, status string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.threshold, f.status
}
