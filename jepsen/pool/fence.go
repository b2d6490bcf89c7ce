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

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// fences is the hosts' power switches: what a power device of type process speaks, HTTP over a unix socket, with GET /status?host=NAME,
// POST /off and POST /on with {"host": NAME}. A host that is off stays off until it is ordered on, or until a person presses its button.
type fences struct {
	p      *Pool
	server *http.Server
	served chan struct{}
	ctx    context.Context // ends all waits
	stop   context.CancelFunc
	back   sync.WaitGroup

	mu   sync.Mutex // guards what follows
	done []Reset
	ails map[string]string // by host
}

const (
	// fenceTime bounds one request; a disk that hangs is thawed before.
	fenceTime = 30 * time.Second
	// slowTime is how late a slow switch does what it is told.
	slowTime = 4 * time.Second
	// buttonTime is after how long somebody walks to a host that is still off.
	buttonTime = 20 * time.Second
)

func (p *Pool) fenceSocket() string { return filepath.Join(p.cfg.Dir, "power.sock") }

// serveFences starts to listen.
func (p *Pool) serveFences() error {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "unix", p.fenceSocket())
	if err != nil {
		return fmt.Errorf("listening for power management: %w", err)
	}
	f := &fences{p: p, served: make(chan struct{}), ails: map[string]string{}}
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

// powerDevice is the name of every host's power device.
const powerDevice = "switch"

// addPower gives the pool the hosts' power devices, as an operator would.
func (p *Pool) addPower(ctx context.Context) error {
	for _, h := range p.hosts {
		dev := api.PowerDeviceSet{Type: api.PowerProcess, Address: p.fenceSocket(), Options: map[string]string{"host": h.name}}
		if _, err := p.hosts[0].client.SetPowerDevice(ctx, h.name, powerDevice, dev); err != nil {
			return fmt.Errorf("giving %s a power device: %w", h.name, err)
		}
	}
	return nil
}

// SetSwitch says what ails a host's switch, one of history.SwitchDead and so on; empty: nothing does.
func (p *Pool) SetSwitch(name, ails string) error {
	if _, err := p.host(name); err != nil {
		return err
	}
	if p.fences == nil {
		return fmt.Errorf("the switch of %s: %w", name, ErrNoSwitches)
	}
	p.fences.mu.Lock()
	defer p.fences.mu.Unlock()
	p.fences.ails[name] = ails
	return nil
}

// ErrNoSwitches says that the hosts have no power switches; see Config.Fencing.
var ErrNoSwitches = errors.New("the hosts have no power switches")

// Fenced are the hosts that others have switched off, in order.
func (p *Pool) Fenced() []Reset {
	if p.fences == nil {
		return nil
	}
	p.fences.mu.Lock()
	defer p.fences.mu.Unlock()
	return append([]Reset(nil), p.fences.done...)
}

// request is one request to a switch, from its coming to its answer.
type request struct {
	f    *fences
	h    *host
	note history.Power
}

// begin notes a request. A slow switch takes its time, a dead one never comes so far: false.
func (f *fences) begin(ctx context.Context, w http.ResponseWriter, h *host, kind string) (*request, bool) {
	f.mu.Lock()
	ails := f.ails[h.name]
	f.mu.Unlock()
	r := &request{f: f, h: h, note: history.Power{Host: h.name, Kind: kind, At: f.p.now(), Ails: ails}}
	if kind != history.PowerAskStatus {
		r.note.Intents, r.note.Silent = f.p.intents(ctx, h.name)
	}
	wait := map[string]time.Duration{history.SwitchDead: fenceTime, history.SwitchSlow: slowTime}[ails]
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-f.ctx.Done():
	}
	if ails == history.SwitchDead {
		r.refuse(w, http.StatusGatewayTimeout, "failed", errors.New("the switch does not answer"))
		return nil, false
	}
	return r, true
}

// tell notes the answer.
func (r *request) tell(said string) {
	r.note.Told, r.note.Said = r.f.p.now(), said
	r.f.p.notePower(r.note)
}

func (r *request) refuse(w http.ResponseWriter, status int, code string, err error) {
	r.tell("error: " + err.Error())
	refuse(w, status, code, err)
}

// answer says what was done; a switch that denies says that it failed.
func (r *request) answer(w http.ResponseWriter, said string, v any) {
	if r.note.Ails == history.SwitchDenies && r.note.Kind != history.PowerAskStatus {
		r.refuse(w, http.StatusInternalServerError, "failed", errors.New("the switch says that it failed"))
		return
	}
	r.tell(said)
	reply(w, v)
}

// lies reports whether the switch only says that it does what it is told.
func (r *request) lies() bool { return r.note.Ails == history.SwitchLies }

// status is the truth about the power: a host without processes is on as long as nobody took its power.
func (f *fences) status(w http.ResponseWriter, req *http.Request) {
	h, err := f.p.host(req.URL.Query().Get("host"))
	if err != nil {
		refuse(w, http.StatusNotFound, "unknown_host", err)
		return
	}
	r, ok := f.begin(req.Context(), w, h, history.PowerAskStatus)
	if !ok {
		return
	}
	state := history.PowerIsOn
	if h.isOff() {
		state = history.PowerIsOff
	}
	r.answer(w, state, map[string]string{"state": state})
}

func (f *fences) off(w http.ResponseWriter, req *http.Request) {
	h, ok := f.named(w, req)
	if !ok {
		return
	}
	r, ok := f.begin(req.Context(), w, h, history.PowerOrderOff)
	if !ok {
		return
	}
	now := time.Now()
	done := map[string]any{"kind": "exit", "detail": "all its processes were waited for", "at": now}
	if r.lies() {
		r.answer(w, "done", done)
		return
	}
	h.log.Info("another host switches this one off")
	was := h.isOff()
	if err := f.p.PowerOff(h.name); err != nil {
		r.refuse(w, http.StatusConflict, "not_confirmed", err)
		return
	}
	if !was {
		f.mu.Lock()
		f.done = append(f.done, Reset{Host: h.name, At: now})
		f.mu.Unlock()
		f.back.Go(func() { f.pressButton(h) })
	}
	r.answer(w, "done", done)
}

// pressButton starts a host that nobody has switched on again.
func (f *fences) pressButton(h *host) {
	t := time.NewTimer(buttonTime)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.ctx.Done():
		return
	}
	if !h.isOff() {
		return
	}
	if _, err := h.powerOn(); err != nil {
		h.log.Error("a host that was switched off does not start again", "error", err)
	}
}

func (f *fences) on(w http.ResponseWriter, req *http.Request) {
	h, ok := f.named(w, req)
	if !ok {
		return
	}
	r, ok := f.begin(req.Context(), w, h, history.PowerOrderOn)
	if !ok {
		return
	}
	if !r.lies() {
		if _, err := h.powerOn(); err != nil {
			r.refuse(w, http.StatusInternalServerError, "failed", err)
			return
		}
	}
	r.answer(w, "done", struct{}{})
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
