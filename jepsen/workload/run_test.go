package workload

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// A real pool, whose SPM is killed in the middle, gives a history that every checker is content with.
func TestRun_killedSPM(t *testing.T) {
	if testing.Short() {
		t.Skip("left out of short runs: it starts a pool and kills a host, which takes half a minute")
	}
	const lasts = 15 * time.Second
	p := startDevPool(t)
	folder := t.TempDir()
	began := time.Now()
	faults := []history.Fault{p.runWithKill(t, folder, began, lasts)}
	r := history.Run{Seed: 1, Began: began, Lasted: time.Since(began), Hosts: []string{"h1", "h2", "h3"}, Profile: "dev",
		Domain: p.file.Domain, Nemeses: []string{"kill"}, Bounds: history.Bounds{IOTimeout: time.Second, Watchdog: 2 * time.Second}, Least: 200}
	p.save(t, folder, r, faults)
	rec, err := check.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(rec.Ops) == 0 {
		t.Fatal("the history is empty")
	}
	for _, c := range check.Clients() {
		v := c(rec)
		t.Logf("%s: %s", v.Checker, v.Summary)
		for _, f := range v.Faults {
			t.Errorf("%s: %s", v.Checker, f)
		}
	}
}

// runWithKill lets clients work, kills the SPM's host after a third of the time, and waits until it is back.
func (p *devPool) runWithKill(t *testing.T, folder string, began time.Time, lasts time.Duration) history.Fault {
	t.Helper()
	log, err := history.NewLog[history.Op](folder, history.OpsFile)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{Hosts: p.hosts(), Domain: p.file.Domain, Began: began, Seed: 1, Describe: ByUpdate}, log)
	}()
	kill := time.NewTimer(lasts / 3)
	defer kill.Stop()
	<-kill.C
	f := history.Fault{Kind: "kill", Begin: time.Since(began)}
	host := ""
	testutil.Retry(t, 10*time.Second, func() (err error) { host, err = p.killSPM(ctx); return err })
	f.Targets = []string{host}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	testutil.Retry(t, 60*time.Second, func() error { return p.healed(t.Context()) })
	f.End = time.Since(began)
	return f
}

// save writes the rest of the folder.
func (p *devPool) save(t *testing.T, folder string, r history.Run, faults []history.Fault) {
	t.Helper()
	mirrors, err := Mirrors(testutil.Deadline(t), p.hosts())
	if err != nil {
		t.Fatal(err)
	}
	if err := history.SaveFinal(folder, history.Final{Mirrors: mirrors, LUN: p.onLUN(t)}); err != nil {
		t.Fatal(err)
	}
	if err := history.SaveRun(folder, r); err != nil {
		t.Fatal(err)
	}
	write(t, folder, history.FaultsFile, faults)
	write(t, folder, history.SamplesFile, []history.Sample{})
	write(t, folder, history.WritesFile, []history.Entry{})
}

func write[T any](t *testing.T, folder, name string, all []T) {
	t.Helper()
	l, err := history.NewLog[T](folder, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		l.Add(v)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConfig_validate(t *testing.T) {
	t.Parallel()
	good := Config{Hosts: []Host{{Name: "h1", Client: client.Config{Address: "http://127.0.0.1:1"}}}, Domain: "d", Began: time.Now(),
		Describe: func(*client.Client) Describer { return nil }}
	if err := good.withDefaults().validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no hosts":         func(c *Config) { c.Hosts = nil },
		"no beginning":     func(c *Config) { c.Began = time.Time{} },
		"no domain":        func(c *Config) { c.Domain = "" },
		"nothing to do":    func(c *Config) { c.Weights = map[string]int{} },
		"no such thing":    func(c *Config) { c.Weights = map[string]int{"host.leave": 1} },
		"cannot describe":  func(c *Config) { c.Describe = nil },
		"negative weight":  func(c *Config) { c.Weights = map[string]int{history.VolumeList: -1} },
		"more than all":    func(c *Config) { c.Consistent = 2 },
		"negative clients": func(c *Config) { c.Clients = -1 },
	} {
		c := good
		spoil(&c)
		if err := c.withDefaults().validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A host that keeps everybody waiting does not keep the others from being asked.
func TestRun_hostThatHangs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var well atomic.Int64 // when the host that is well was asked last
	began := time.Now()
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ctx.Done() }))
	defer hangs.Close()
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		well.Store(int64(time.Since(began)))
		http.Error(w, "no", http.StatusServiceUnavailable)
	}))
	defer answers.Close()
	folder := t.TempDir()
	log, err := history.NewLog[history.Op](folder, history.OpsFile)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Began: began, Rate: 1000, Clients: 4, Weights: map[string]int{history.VolumeCreate: 1, history.VolumeList: 1}}
	for name, srv := range map[string]*httptest.Server{"h1": hangs, "h2": answers} {
		c.Hosts = append(c.Hosts, Host{Name: name, Client: client.Config{Address: srv.URL}})
	}
	if err := Run(ctx, c, log); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if last := time.Duration(well.Load()); last < 400*time.Millisecond {
		t.Errorf("the host that is well was asked last after %v of 500ms", last)
	}
}
