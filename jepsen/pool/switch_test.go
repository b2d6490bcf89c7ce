package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// switches is a pool of which no agent ever runs, the client of its switches, and what they wrote down.
func switches(t *testing.T) (*Pool, *switchClient, func() []history.Power) {
	t.Helper()
	var mu sync.Mutex
	var notes []history.Power
	begun := time.Now()
	p, err := Open(Config{Dir: shortDir(t), Binary: os.Args[0], Hosts: 2, Plain: true, Fencing: true, Serve: func(string, string, string) error { return nil },
		Now: func() time.Duration { return time.Since(begun) },
		Power: func(n history.Power) {
			mu.Lock()
			defer mu.Unlock()
			notes = append(notes, n)
		}})
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p, newSwitchClient(p.fenceSocket()), func() []history.Power {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(notes)
	}
}

// switchClient asks as a power device of type process does.
type switchClient struct{ http http.Client }

func newSwitchClient(socket string) *switchClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &switchClient{http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}}
}

func (c *switchClient) do(ctx context.Context, method, path, body string) (state string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://switch"+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var out struct{ State, Message string }
	if err = json.NewDecoder(resp.Body).Decode(&out); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d: %s", resp.StatusCode, out.Message)
	}
	return out.State, err
}

func (c *switchClient) Status(ctx context.Context, host string) (string, error) {
	return c.do(ctx, http.MethodGet, "/status?host="+host, "")
}

func (c *switchClient) Off(ctx context.Context, host string) error {
	_, err := c.do(ctx, http.MethodPost, "/off", fmt.Sprintf("{%q: %q}", "host", host))
	return err
}

// A switch's status is always true, whatever ails it and whatever it says of orders, and all is written down.
func TestSwitch_ails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ails  string
		fails bool
		off   string
	}{
		{"", false, history.PowerIsOff},
		{history.SwitchLies, false, history.PowerIsOn},
		{history.SwitchDenies, true, history.PowerIsOff},
	} {
		t.Run("ails "+c.ails, func(t *testing.T) {
			t.Parallel()
			p, sw, notes := switches(t)
			ctx := deadline(t, time.Minute)
			must(t, p.SetSwitch("h1", c.ails))
			if st, err := sw.Status(ctx, "h1"); err != nil || st != history.PowerIsOn {
				t.Fatalf("before: %s, %v", st, err)
			}
			if err := sw.Off(ctx, "h1"); (err != nil) != c.fails {
				t.Errorf("off: %v", err)
			}
			if st, err := sw.Status(ctx, "h1"); err != nil || st != c.off {
				t.Errorf("after: %s, %v", st, err)
			}
			want := []string{history.PowerAskStatus, history.PowerIsOff, history.PowerOrderOff, history.PowerAskStatus}
			if c.off == history.PowerIsOn {
				want = slices.Delete(want, 1, 2)
			}
			var got []string
			for _, n := range notes() {
				got = append(got, n.Kind)
				if n.Host != "h1" || n.Kind != history.PowerIsOff && (n.Ails != c.ails || n.Said == "" || n.Told < n.At) {
					t.Errorf("%+v", n)
				}
			}
			if !slices.Equal(got, want) || len(p.Fenced()) != len(want)-3 {
				t.Errorf("%v, want %v; %d hosts switched off", got, want, len(p.Fenced()))
			}
		})
	}
}

// A dead switch answers nobody for as long as they ask, and does nothing afterwards.
func TestSwitch_dead(t *testing.T) {
	t.Parallel()
	p, sw, _ := switches(t)
	must(t, p.SetSwitch("h1", history.SwitchDead))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := sw.Off(ctx, "h1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("off: %v", err)
	}
	must(t, p.SetSwitch("h1", ""))
	if st, err := sw.Status(deadline(t, time.Minute), "h1"); err != nil || st != history.PowerIsOn {
		t.Errorf("after it works again: %s, %v", st, err)
	}
	if err := p.SetSwitch("h9", ""); !errors.Is(err, ErrNoHost) {
		t.Errorf("a host that there is not: %v", err)
	}
}
