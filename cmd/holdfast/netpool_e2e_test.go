package main

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// An SPM that is cut off from every network, and reaches the LUN, hands over when it is asked through the LUN, and says why when
// it can be heard again.
func TestNetPool_cutOffHandsOver(t *testing.T) {
	testutil.NeedTool(t, "ip")
	ctx := deadline(t, 4*time.Minute)
	p, err := newNetPool(ctx, shortDir(t), "fast", 3, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if _, err := p.hosts[0].CreateVolume(ctx, api.VolumeCreate{Name: "before", Size: gib}, ""); err != nil {
		t.Fatal(err)
	}
	var times []time.Duration
	for range 3 {
		took, was, err := p.handOver(ctx, false)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, took)
		t.Logf("%s was cut off; another host was SPM %s later", was, took)
		p.mustTell(t, was)
		if _, err := p.other(was).CreateVolume(ctx, api.VolumeCreate{Name: "after-" + was + took.String(), Size: gib}, ""); err != nil {
			t.Error(err)
		}
	}
	took, was, err := p.handOver(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, which led as well, was cut off; another host was SPM %s later", was, took)
	slices.Sort(times)
	if median := times[1]; median > 2500*time.Millisecond { // the goal is 2 s; this machine may be busy
		t.Errorf("median %s", median)
	}
}

// mustTell checks the history: who asked, that the role was given up, and the word of the host that did.
func (p *netPool) mustTell(t *testing.T, host string) {
	t.Helper()
	ctx := deadline(t, 20*time.Second)
	want := []string{"spm.asked", "spm.yielded", "spm.handed_over"}
	err := poll(ctx, "the history tells it", func() error {
		events, _, err := p.hosts[0].Events(ctx, 0, 100, client.Read{})
		for _, kind := range want {
			if !slices.ContainsFunc(events, func(e api.Event) bool { return e.Kind == kind && e.Host == host }) {
				err = errors.Join(err, errors.New("no event "+kind+" of "+host))
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
