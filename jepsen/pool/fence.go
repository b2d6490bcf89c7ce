package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"
)

// fences is the hosts' power management: what the agent `process` of package fencing speaks, HTTP over a unix socket, with
// GET /status?host=NAME, POST /off and POST /on with {"host": NAME}. A host that was switched off comes back a little later, as
// with a power cycle.
type fences struct {
	p      *Pool
	server *http.Server
	served chan struct{}
	ctx    context.Context // ends the waits for hosts to come back
	stop   context.CancelFunc
	back   sync.WaitGroup

	mu   sync.Mutex // guards done
	done []Reset
}

// fenceTime bounds one request; a disk that hangs is thawed before.
const fenceTime = 30 * time.Second

func (p *Pool) fenceSocket() string { return filepath.Join(p.cfg.Dir, "power.sock") }

// serveFences starts to listen.
func (p *Pool) serveFences() error {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "unix", p.fenceSocket())
	if err != nil {
		return fmt.Errorf("listening for power management: %w", err)
	}
	f := &fences{p: p, served: make(chan struct{})}
	f.ctx, f.stop = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", f.status)
	mux.HandleFunc("POST /off", f.off)
	mux.HandleFunc("POST /on", f.on)
	f.server = &http.Server{Handler: mux, ReadHeaderTimeout: fenceTime}
	p.fences = f
	go func() {
		defer close(f.served)
		_ = f.server.Serve(ln) // ends with close
	}()
	return nil
}

func (f *fences) close() error {
	f.stop()
	err := f.server.Close()
	<-f.served
	f.back.Wait()
	return err
}

// Fenced are the hosts that others have switched off, in order.
func (p *Pool) Fenced() []Reset {
	if p.fences == nil {
		return nil
	}
	p.fences.mu.Lock()
	defer p.fences.mu.Unlock()
	return append([]Reset(nil), p.fences.done...)
}

func (f *fences) status(w http.ResponseWriter, r *http.Request) {
	h, err := f.p.host(r.URL.Query().Get("host"))
	if err != nil {
		refuse(w, http.StatusNotFound, "unknown_host", err)
		return
	}
	pids, err := h.pids(Both)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "failed", err)
		return
	}
	state := "off"
	if len(pids) > 0 {
		state = "on"
	}
	reply(w, map[string]string{"state": state})
}

func (f *fences) off(w http.ResponseWriter, r *http.Request) {
	h, ok := f.named(w, r)
	if !ok {
		return
	}
	h.log.Info("another host switches this one off")
	if err := f.p.PowerOff(h.name); err != nil {
		refuse(w, http.StatusConflict, "not_confirmed", err)
		return
	}
	now := time.Now()
	f.mu.Lock()
	f.done = append(f.done, Reset{Host: h.name, At: now})
	f.mu.Unlock()
	f.back.Go(func() { f.comeBack(h) })
	reply(w, map[string]any{"kind": "exit", "detail": "agent and keeper were waited for", "at": now})
}

// comeBack starts a host again that was switched off.
func (f *fences) comeBack(h *host) {
	t := time.NewTimer(rebootTime)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.ctx.Done():
		return
	}
	if _, err := h.powerOn(); err != nil {
		h.log.Error("a host that was switched off does not start again", "error", err)
	}
}

func (f *fences) on(w http.ResponseWriter, r *http.Request) {
	h, ok := f.named(w, r)
	if !ok {
		return
	}
	if _, err := h.powerOn(); err != nil {
		refuse(w, http.StatusInternalServerError, "failed", err)
		return
	}
	reply(w, struct{}{})
}

// named is the host of a request.
func (f *fences) named(w http.ResponseWriter, r *http.Request) (*host, bool) {
	var in struct {
		Host string `json:"host"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&in); err != nil {
		refuse(w, http.StatusBadRequest, "failed", errors.New("the request names no host"))
		return nil, false
	}
	h, err := f.p.host(in.Host)
	if err != nil {
		refuse(w, http.StatusNotFound, "unknown_host", err)
		return nil, false
	}
	return h, true
}

func refuse(w http.ResponseWriter, status int, code string, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "message": err.Error()}) // whoever hung up does not want it
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // whoever hung up does not want it
}
