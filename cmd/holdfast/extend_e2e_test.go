package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/config"
)

// turnstile stands before an agent's cluster port, as the network does: shut, nothing comes through to that agent, and what was
// open breaks.
type turnstile struct {
	l    net.Listener
	to   string
	wg   sync.WaitGroup
	done chan struct{}

	mu    sync.Mutex // guards what follows
	shut  bool
	conns map[net.Conn]bool
}

func newTurnstile(t *testing.T, to string) *turnstile {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &turnstile{l: l, to: to, conns: map[net.Conn]bool{}, done: make(chan struct{})}
	g.wg.Go(g.run)
	t.Cleanup(func() {
		close(g.done)
		_ = l.Close()
		g.set(true)
		g.wg.Wait()
	})
	return g
}

// run lets callers through until the listener is closed.
func (g *turnstile) run() {
	for {
		c, err := g.l.Accept()
		if err != nil {
			return
		}
		g.wg.Go(func() { g.pass(c) })
	}
}

func (g *turnstile) pass(c net.Conn) {
	defer c.Close()
	if !g.keep(c) {
		return
	}
	defer g.drop(c)
	far, err := net.DialTimeout("tcp", g.to, time.Second)
	if err != nil {
		return
	}
	defer far.Close()
	if !g.keep(far) {
		return
	}
	defer g.drop(far)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, far}, {far, c}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // it ends with either connection
			_ = way[0].Close()
		})
	}
	both.Wait()
}

func (g *turnstile) keep(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		g.conns[c] = true
	}
	return !g.shut
}

func (g *turnstile) drop(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// set shuts or opens it.
func (g *turnstile) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut = shut; shut {
		for c := range g.conns {
			_ = c.Close()
		}
	}
}

// extensions counts what a host asked for, by how it ended.
func extensions(t *testing.T, a *testAgent, result string) int {
	t.Helper()
	return int(metric(t, a, `holdfast_extend_requests_total{result="`+result+`"}`))
}

// metric reads one line of an agent's metrics.
func metric(t *testing.T, a *testAgent, name string) float64 {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", a.conf.UnixSocket)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(deadline(t, 10*time.Second), http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// extension is a pool whose hosts can be cut off, and a volume of it that grows.
type extension struct {
	*agentPool
	gates map[string]*turnstile // by host
	vol   api.VolumeCreated
	size  int64 // that it has
	spm   string
	asker *testAgent // a host that is not the SPM
}

func newExtension(t *testing.T) *extension {
	t.Helper()
	x := &extension{gates: map[string]*turnstile{}}
	x.agentPool = newAgentPool(t, 3, newLUN(t, 64*gib), func(c *config.Agent) {
		g := newTurnstile(t, c.Cluster.Listen)
		x.gates[c.Name] = g
		c.Cluster.Advertise = g.l.Addr().String()
	})
	var err error
	x.vol, err = x.agents[0].CreateVolume(deadline(t, 30*time.Second), api.VolumeCreate{Name: "web", Size: 20 * gib, InitialSize: 128 << 20}, "")
	if err != nil {
		t.Fatal(err)
	}
	x.size = x.vol.Allocated
	for _, a := range x.agents {
		if err := poll(deadline(t, 60*time.Second), "the storage of "+a.conf.Name+" is up", func() error {
			if metric(t, a, "holdfast_storage_up") != 1 {
				return errors.New("it is not")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	x.meet(t)
	return x
}

// meet lets the leader be the SPM: then its port can be cut without anybody taking the role from it.
func (x *extension) meet(t *testing.T) {
	t.Helper()
	spm := x.awaitSPM(t)
	ctx := deadline(t, 40*time.Second)
	if _, err := x.agent(t, spm.Host).TransferLeadership(ctx, api.RaftTransfer{To: spm.Host}); err != nil {
		t.Fatalf("making %s the leader: %v", spm.Host, err)
	}
	x.spm, x.asker = spm.Host, x.other(spm.Host)
}

// more extends the volume by an extent through a host, and returns how long that took.
func (x *extension) more(t *testing.T, a *testAgent, mirrored bool) time.Duration {
	t.Helper()
	x.size += 128 << 20
	begun := time.Now()
	var v api.VolumeExtended
	mustJSON(t, a, &v, "volume", "extend", "web", "--size", strconv.FormatInt(x.size-4096, 10))
	took := time.Since(begun)
	if v.ID != x.vol.ID || v.Allocated != x.size || v.Mirrored != mirrored || v.Size != x.vol.Size {
		t.Fatalf("asked for %d, answered %+v", x.size, v)
	}
	return took
}

// Volumes grow over the network, with the SPM's port cut, with every port cut and so without a quorum, and while the role moves;
// lvm2 judges what came of it.
func TestAgents_extend(t *testing.T) {
	x := newExtension(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"over the network", x.byNetwork}, {"through the storage", x.byMailbox}, {"without a quorum", x.withoutQuorum},
		{"while the role moves", x.whileMoving}, {"refused", x.refused}, {"out of space", x.outOfSpace},
	} {
		if !t.Run(part.name, part.run) {
			return
		}
	}
	x.judge(t)
	for _, a := range x.agents {
		a.alive(t)
	}
}

func (x *extension) byNetwork(t *testing.T) {
	before := extensions(t, x.asker, "rpc")
	for _, a := range x.agents {
		t.Logf("%s: %v", a.conf.Name, x.more(t, a, true))
	}
	if n := extensions(t, x.asker, "rpc"); n != before+1 || extensions(t, x.asker, "mailbox") != 0 {
		t.Errorf("%d by RPC, %d by mailbox", n, extensions(t, x.asker, "mailbox"))
	}
	for _, a := range x.agents {
		v, _, err := a.Volume(deadline(t, 10*time.Second), "web", client.Read{Consistent: true})
		if err != nil || v.Allocated != x.size {
			t.Errorf("%s: %+v, %v", a.conf.Name, v, err)
		}
	}
}

func (x *extension) byMailbox(t *testing.T) {
	x.gates[x.spm].set(true)
	defer x.gates[x.spm].set(false)
	before := extensions(t, x.asker, "mailbox")
	var took []time.Duration
	for range 10 {
		took = append(took, x.more(t, x.asker, true))
	}
	slices.Sort(took)
	if n := extensions(t, x.asker, "mailbox") - before; n != 10 {
		t.Errorf("%d of 10 went through the storage", n)
	}
	t.Logf("through the storage alone: %v, at most %v", took[len(took)/2], took[len(took)-1])
	var m api.Mailbox
	mustJSON(t, x.asker, &m, "mailbox", "show")
	if m.Event == "" || m.Domain != x.vol.Domain {
		t.Errorf("the mailbox shows %+v", m)
	}
}

func (x *extension) withoutQuorum(t *testing.T) {
	for _, g := range x.gates {
		g.set(true)
	}
	t.Logf("no host reaches another: %v", x.more(t, x.asker, false))
	for _, g := range x.gates {
		g.set(false)
	}
	ctx := deadline(t, 60*time.Second)
	if err := poll(ctx, "the mirror follows", func() error {
		v, _, err := x.asker.Volume(ctx, "web", client.Read{Consistent: true})
		if err == nil && v.Allocated != x.size {
			err = fmt.Errorf("the mirror has %d", v.Allocated)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	awaitHosts(t, x.asker.Client, 3)
}

// whileMoving extends through each host while the role goes round: no request fails.
func (x *extension) whileMoving(t *testing.T) {
	x.awaitSPM(t)
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			x.size += 128 << 20
			v, err := x.agents[i%3].ExtendVolume(deadline(t, 60*time.Second), x.vol.ID, api.VolumeExtend{Size: x.size})
			if err != nil || v.Allocated < x.size {
				failed <- fmt.Errorf("through %s to %d: %+v, %w", x.agents[i%3].conf.Name, x.size, v, err)
				return
			}
		}
	}()
	for range 3 {
		if _, err := x.agents[0].MoveSPM(deadline(t, 60*time.Second), api.SPMMove{}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Error(err)
	}
	x.spm = x.awaitSPM(t).Host
	x.asker = x.other(x.spm)
}

func (x *extension) refused(t *testing.T) {
	for _, a := range []*testAgent{x.agent(t, x.spm), x.asker} {
		for name, c := range map[string]struct {
			ref  string
			size int64
			code string
		}{
			"no volume":             {"0aec1d6e-6d2f-4f0a-8a5b-1f6f0e3f9b8d", gib, api.CodeNotFound},
			"no name":               {"nobody", gib, api.CodeNotFound},
			"more than it can need": {"web", 22*gib + 1, api.CodeInvalid},
			"nothing":               {"web", 0, api.CodeInvalid},
		} {
			_, err := a.ExtendVolume(deadline(t, 30*time.Second), c.ref, api.VolumeExtend{Size: c.size})
			if asError(err).Code != c.code {
				t.Errorf("%s through %s: %v", name, a.conf.Name, err)
			}
		}
		if v, err := a.ExtendVolume(deadline(t, 30*time.Second), "web", api.VolumeExtend{Size: 1}); err != nil || v.Allocated < x.size {
			t.Errorf("to less than it has: %+v, %v", v, err)
		}
	}
}

// outOfSpace fills the domain: what does not fit is kept, shown, and served when a delete makes room.
func (x *extension) outOfSpace(t *testing.T) {
	ctx := deadline(t, 90*time.Second)
	a := x.asker
	var d api.Domain
	mustJSON(t, a, &d, "domain", "set", x.vol.Domain, "--critical-free", "0", "--warn-free", "1%")
	if d.CriticalFree != 0 || d.WarnPercent != 1 {
		t.Errorf("the settings are %+v", d)
	}
	if _, err := a.CreateVolume(ctx, api.VolumeCreate{Name: "ballast", Size: d.Free - 256<<20, Format: api.FormatRaw}, ""); err != nil {
		t.Fatal(err)
	}
	_, err := a.ExtendVolume(ctx, "web", api.VolumeExtend{Size: x.size + gib, Paused: true})
	e := asError(err)
	if e.Code != api.CodeOutOfSpace || !e.Queued {
		t.Fatalf("%+v", err)
	}
	if err := poll(ctx, "the status warns", func() error {
		st, _, err := x.agents[0].Status(ctx, client.Read{})
		if err == nil && !slices.ContainsFunc(st.Warnings, func(w api.Warning) bool { return strings.Contains(w.Message, "1 extensions wait for") }) {
			err = fmt.Errorf("warnings: %+v", st.Warnings)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	mustJSON(t, a, &d, "domain", "set", x.vol.Domain, "--critical-free", "5GiB")
	if _, err := a.CreateVolume(ctx, api.VolumeCreate{Name: "more", Size: gib, InitialSize: 128 << 20}, ""); asError(err).Code != api.CodeNoSpace {
		t.Errorf("a new volume although space is critical: %v", err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := a.ExtendVolume(ctx, "web", api.VolumeExtend{Size: x.size + gib, WaitSeconds: 40})
		waited <- err
	}()
	if _, err := a.DeleteVolume(ctx, "ballast"); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("who waited for space: %v", err)
	}
	x.size += gib
	v, _, err := a.Volume(ctx, "web", client.Read{Consistent: true})
	if err != nil || v.Allocated != x.size {
		t.Errorf("%+v, %v", v, err)
	}
	events, _, err := a.Events(ctx, 0, 100, client.Read{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(events, func(e api.Event) bool { return e.Kind == "domain.out_of_space" }) {
		t.Errorf("no event tells of it: %+v", events)
	}
}

// judge lets lvm2 and the domain's check look at what came of it.
func (x *extension) judge(t *testing.T) {
	t.Helper()
	ctx := deadline(t, 60*time.Second)
	check, err := x.asker.CheckDomain(ctx, x.vol.Domain)
	if err != nil || !check.Clean {
		t.Errorf("%+v, %v", check, err)
	}
	j := &judges{lun: x.lun, vg: x.vol.Domain}
	if err := j.attach(ctx); errors.Is(err, errNoJudge) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.detach() }()
	if out, err := j.lvm(ctx, "vgck", j.vg); err != nil {
		t.Errorf("vgck: %s, %v", out, err)
	}
	lvs, err := j.lvs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := lvs[x.vol.ID]; got.Size != x.size {
		t.Errorf("lvs shows %d bytes, the pool %d", got.Size, x.size)
	}
	// What is free by lvm's count is what the pool says: no extent leaked.
	out, err := j.lvm(ctx, "vgs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "vg_free", j.vg)
	var report struct {
		Report []struct {
			VG []struct {
				Free string `json:"vg_free"`
			} `json:"vg"`
		} `json:"report"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &report)
	}
	if err != nil {
		t.Fatalf("vgs: %v", err)
	}
	d, _, err := x.asker.Domain(ctx, x.vol.Domain, client.Read{Consistent: true})
	if free := strconv.FormatInt(d.Free, 10); err != nil || report.Report[0].VG[0].Free != free {
		t.Errorf("free are %s by lvm2 and %s by the pool, %v", report.Report[0].VG[0].Free, free, err)
	}
}
