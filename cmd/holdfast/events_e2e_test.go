package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// eventsFollower is a running `holdfast events --follow -o json`.
type eventsFollower struct {
	t    *testing.T
	done chan error
	stop func(os.Signal) error

	mu     sync.Mutex // guards the fields below
	events []api.Event
	odd    []string // lines that are no event
	errs   bytes.Buffer
}

// Write takes standard error.
func (f *eventsFollower) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errs.Write(b)
}

func followEventsOf(t *testing.T, address string, more ...string) *eventsFollower {
	t.Helper()
	f := &eventsFollower{t: t, done: make(chan error, 1)}
	cmd := program(append([]string{"events", "--follow", "-o", "json", "--limit", "1000", "--address", address}, more...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.stop = cmd.Process.Signal
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			f.line(s.Bytes())
		}
		f.done <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-f.done
	})
	return f
}

func (f *eventsFollower) line(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var e api.Event
	if err := json.Unmarshal(b, &e); err != nil || e.ID == "" {
		f.odd = append(f.odd, string(b))
		return
	}
	f.events = append(f.events, e)
}

// same says how what was followed differs from the history that a host lists.
func (f *eventsFollower) same(want []api.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.odd) > 0 {
		return fmt.Errorf("these lines are no events: %q", f.odd)
	}
	var got, ids []string
	for _, e := range f.events {
		got = append(got, e.ID)
	}
	for _, e := range want {
		ids = append(ids, e.ID)
	}
	if !slices.Equal(got, ids) {
		return fmt.Errorf("followed %v, the history is %v; standard error: %s", got, ids, f.errs.String())
	}
	return nil
}

// end interrupts the command, which is no failure.
func (f *eventsFollower) end() {
	f.t.Helper()
	if err := f.stop(os.Interrupt); err != nil {
		f.t.Fatal(err)
	}
	if err := <-f.done; err != nil {
		f.t.Errorf("ended with %v: %s", err, f.errs.String())
	}
	f.done <- nil
}

// A follower of the SPM's own host sees that host die, the role move, and the host come back: each event once, in order, none
// missing, although the first host it read from was killed under it.
func TestE2E_eventsFollow(t *testing.T) {
	p := startPool(t)
	defer showStatus(t, p)
	spm := mustSPM(t, p)
	address := p.file().Hosts[p.index(spm.Host)].HTTP
	f := followEventsOf(t, address)
	quiet := followEventsOf(t, address, "--kind", "spm,host", "--severity", "error", "--host", "nobody")
	history := func() []api.Event {
		l, mark, err := p.client(p.other(spm.Host)).EventList(deadline(t, 10*time.Second), client.EventQuery{After: "0.0", Limit: 1000}, client.Read{})
		if err != nil || mark.Gap != "" {
			t.Fatalf("%v, gap %q", err, mark.Gap)
		}
		return l
	}
	caughtUp := func() {
		t.Helper()
		testutil.Retry(t, time.Minute, func() error { return f.same(history()) })
	}
	testutil.Retry(t, time.Minute, func() error { // both are connected, or the death of the host would find them before
		text, err := scrape(deadline(t, 10*time.Second), address)
		if err == nil && !strings.Contains(text, "holdfast_http_event_streams 2\n") {
			err = errors.New("two streams are not open yet")
		}
		return err
	})
	caughtUp()
	before := len(history())
	if err := p.killAgent(spm.Host); err != nil {
		t.Fatal(err)
	}
	if err := poll(deadline(t, time.Minute), "another host is SPM", func() error {
		if now, err := p.spm(deadline(t, 10*time.Second)); err != nil || now.Epoch <= spm.Epoch {
			return fmt.Errorf("%+v, %v", now, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	caughtUp()
	if err := p.awaitUp(deadline(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	status, _, errs := cli(t, "spm", "move", "--address", p.file().Hosts[p.other(spm.Host)].HTTP)
	if status != exitOK {
		t.Fatalf("moving the role: status %d, %s", status, errs)
	}
	caughtUp()
	if n := len(history()); n <= before {
		t.Errorf("nothing has happened: %d events before, %d after", before, n)
	}
	f.end()
	if !strings.Contains(f.errs.String(), "events come through") {
		t.Errorf("standard error does not tell of the other host: %s", f.errs.String())
	}
	quiet.end()
	if len(quiet.events)+len(quiet.odd) != 0 {
		t.Errorf("the filter let %+v %q through", quiet.events, quiet.odd)
	}
	listedEvents(t, p, history())
	shownStates(t, p)
}

// listedEvents looks at the list's own flags.
func listedEvents(t *testing.T, p *devProcess, all []api.Event) {
	t.Helper()
	list := func(args ...string) (l []api.Event) {
		t.Helper()
		status, out, errs := cli(t, append([]string{"events", "-o", "json", "--address", p.file().Hosts[0].HTTP}, args...)...)
		if err := json.Unmarshal([]byte(out), &l); err != nil || status != exitOK {
			t.Fatalf("events %v: status %d, %v, %s", args, status, err, errs)
		}
		return l
	}
	if l := list("--after", all[0].ID, "--limit", "2"); len(l) != 2 || l[0].ID != all[1].ID {
		t.Errorf("after %s: %+v", all[0].ID, l)
	}
	for _, e := range list("--kind", "spm", "--limit", "1000") {
		if e.Kind != "spm" && !strings.HasPrefix(e.Kind, "spm.") {
			t.Errorf("kind spm lists %+v", e)
		}
	}
	for _, bad := range [][]string{{"--after", "x"}, {"--severity", "loud"}, {"--limit", "0"}} {
		if status, _, errs := cli(t, append([]string{"events"}, bad...)...); status != exitUsage {
			t.Errorf("%v: status %d, %s", bad, status, errs)
		}
	}
}

// shownStates looks at the numbers for Prometheus.
func shownStates(t *testing.T, p *devProcess) {
	t.Helper()
	for i, h := range p.file().Hosts {
		testutil.Retry(t, time.Minute, func() error { // a host that was not heard of for a moment is back then
			text, err := scrape(deadline(t, 10*time.Second), h.HTTP)
			for _, want := range []string{`holdfast_host_state{host="` + h.Name + `",state="up"} 1`, `holdfast_domain_status{`, `holdfast_events_total{`} {
				if err == nil && !strings.Contains(text, want) {
					err = fmt.Errorf("host %d does not export %s", i, want)
				}
			}
			return err
		})
	}
}

// The question whether a VM may be started elsewhere, over the life of its lease.
func TestE2E_leaseStartable(t *testing.T) {
	p := startPool(t)
	defer showStatus(t, p)
	mustSPM(t, p)
	id := leaseCLI[api.LeaseCreated](t, p, 0, "create").ID
	want := func(rule string, startable bool) api.LeaseStart {
		t.Helper()
		l := leaseCLI[api.Lease](t, p, 1, "show", "master/"+id)
		if l.Start == nil || l.Start.Rule != rule || l.Start.Startable != startable {
			t.Errorf("lease show says %+v, not %s", l.Start, rule)
			return api.LeaseStart{}
		}
		return *l.Start
	}
	want(api.StartFree, true)
	leaseCLI[api.LeaseHeld](t, p, 2, "acquire", id, "--vm", "vm1")
	host := p.file().Hosts[2].Name
	if s := want(api.StartAlive, false); s.Host != host || s.Awaits == "" || s.NextStep == "" {
		t.Errorf("%+v", s)
	}
	status, out, errs := cli(t, "--address", p.file().Hosts[0].HTTP, "lease", "list", "--startable")
	if status != exitOK || !strings.Contains(out, id) || !strings.Contains(out, host+" is alive and has the lease") {
		t.Errorf("status %d, %s %s", status, out, errs)
	}
	leaseCLI[api.LeaseReleased](t, p, 2, "release", id)
	want(api.StartFree, true)
	for _, bad := range []string{"/" + id, "master/x", "x"} {
		if status, _, _ := cli(t, "lease", "show", bad); status != exitUsage {
			t.Errorf("lease show %s: status %d", bad, status)
		}
	}
}
