package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// The SPM's host goes to maintenance while volumes are made: what is on it is named, it takes nothing new, the role moves, no call
// fails, and the host comes back.
func TestE2E_maintenance(t *testing.T) {
	p := startPool(t)
	ctx := deadline(t, 120*time.Second)
	spm := mustSPM(t, p)
	i := p.index(spm.Host)
	mustLead(ctx, t, p, spm.Host)
	asker := p.client(p.other(spm.Host))
	const lease = "6d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02"
	disk := mustCreate(t, asker, "disk", 1)[0]
	mustAttach(t, p, spm.Host, api.VolumeAttach{}, disk.ID)
	if _, err := asker.CreateLease(ctx, p.file().Domain, lease); err != nil {
		t.Fatal(err)
	}
	if _, err := p.client(i).AcquireLease(ctx, p.file().Domain, lease, api.LeaseFor{VM: "vm-1"}); err != nil {
		t.Fatal(err)
	}
	end := callsDoNotFail(ctx, t, p)

	h, err := asker.MaintainHost(ctx, spm.Host, api.HostMaintain{Reason: "memory"})
	if err != nil {
		t.Fatal(err)
	}
	err = poll(ctx, "the role is away, and what else is there is named", func() (err error) {
		if h, _, err = asker.Host(ctx, spm.Host, client.Read{}); err != nil {
			return err
		}
		if h.State != api.HostPreparing || !strings.Contains(h.Reason, "attached volume disk") || !strings.Contains(h.Reason, lease) ||
			strings.Contains(h.Reason, "SPM") {
			return fmt.Errorf("%s: %s", h.State, h.Reason)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := mustSPM(t, p); now.Host == spm.Host {
		t.Errorf("the role is on %s still", now.Host)
	}
	if h.Wish == nil || h.Wish.Want != api.HostMaintenance || h.Wish.Reason != "memory" || len(h.Witnesses) != 3 {
		t.Errorf("%+v", h)
	}
	_, err = p.client(i).AcquireLease(ctx, p.file().Domain, lease, api.LeaseFor{VM: "vm-2"})
	wantCode(t, err, api.CodeConflict)
	_, err = asker.AttachVolume(ctx, disk.ID, spm.Host, api.VolumeAttach{ReadOnly: true})
	wantCode(t, err, api.CodeConflict)
	_, err = asker.MoveSPM(ctx, api.SPMMove{To: spm.Host})
	wantCode(t, err, api.CodeConflict)

	if _, err := asker.DetachVolume(ctx, disk.ID, spm.Host, api.VolumeDetach{}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.client(i).ReleaseLease(ctx, p.file().Domain, lease, api.LeaseFor{}); err != nil {
		t.Fatal(err)
	}
	awaitHostState(ctx, t, asker, spm.Host, api.HostMaintenance)
	if err := poll(ctx, "the leadership is handed over", func() error { return leads(ctx, asker, spm.Host, false) }); err != nil {
		t.Error(err)
	}
	h, err = asker.ActivateHost(ctx, spm.Host, api.HostActivate{WaitSeconds: 30})
	if err != nil || h.Wish != nil {
		t.Errorf("%+v, %v", h, err)
	}
	awaitHostState(ctx, t, asker, spm.Host, api.HostUp)
	end()
	judgeLUN(t, p)
}

// mustLead makes a host lead.
func mustLead(ctx context.Context, t *testing.T, p *devProcess, host string) {
	t.Helper()
	c := p.client(p.index(host))
	err := poll(ctx, host+" leads", func() error {
		if leads(ctx, c, host, true) == nil {
			return nil
		}
		if _, err := c.TransferLeadership(ctx, api.RaftTransfer{To: host}); err != nil {
			return err
		}
		return leads(ctx, c, host, true)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// leads is nil when a host leads, or does not, as wanted.
func leads(ctx context.Context, c *client.Client, host string, want bool) error {
	h, _, err := c.Host(ctx, host, client.Read{})
	if err == nil && h.Leader != want {
		err = fmt.Errorf("%s leads: %v", host, h.Leader)
	}
	return err
}

// callsDoNotFail makes volumes through every host until end is called.
func callsDoNotFail(ctx context.Context, t *testing.T, p *devProcess) (end func()) {
	t.Helper()
	g, ctx := errgroup.WithContext(ctx)
	var made atomic.Int32
	stop := make(chan struct{})
	for w := range 3 {
		g.Go(func() error {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return nil
				case <-time.After(100 * time.Millisecond): // the pool is to be used, not to be full
				}
				name := fmt.Sprintf("w%d-%d", w, i)
				if _, err := p.client(w).CreateVolume(ctx, api.VolumeCreate{Name: name, Size: gib, InitialSize: 128 << 20}, ""); err != nil {
					return fmt.Errorf("creating %s: %w", name, err)
				}
				if _, _, err := p.client(w).SPM(ctx, client.Read{}); err != nil {
					return fmt.Errorf("asking who is SPM: %w", err)
				}
				made.Add(1)
			}
		})
	}
	return func() {
		close(stop)
		if err := g.Wait(); err != nil || made.Load() == 0 {
			t.Errorf("%d volumes made: %v", made.Load(), err)
		}
	}
}

func awaitHostState(ctx context.Context, t *testing.T, c *client.Client, name, state string) {
	t.Helper()
	err := poll(ctx, name+" is "+state, func() error {
		h, _, err := c.Host(ctx, name, client.Read{})
		if err == nil && h.State != state {
			err = fmt.Errorf("%s: %s", h.State, h.Reason)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Nobody is SPM: every host says why and what is awaited, by the leader's word, and without a leader by its own.
func TestE2E_spmStatusOfNobody(t *testing.T) {
	p := startPool(t)
	ctx := deadline(t, 120*time.Second)
	if _, err := p.client(0).StopSPM(ctx, api.SPMStop{}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		err := poll(ctx, "the leader's word", func() error {
			s, _, err := p.client(i).SPM(ctx, client.Read{})
			if e := s.Explained; err == nil && (s.State != api.SPMNone || e == nil || e.Leader == "" || e.Why != "stopped by the operator" ||
				e.Awaits == "" || len(e.Next) != 3) {
				err = fmt.Errorf("%+v, %+v", s, s.Explained)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if s, err := p.client(1).StartSPM(ctx, api.SPMStart{}); err != nil || s.State != api.SPMServing {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, h := range p.file().Hosts[1:] {
		signalPID(t, h.PID, syscall.SIGSTOP)
	}
	err := poll(ctx, "the word of a host alone", func() error {
		s, _, err := p.client(0).SPM(ctx, client.Read{})
		switch e := s.Explained; {
		case err != nil:
			return err
		case e == nil || e.Leader != "":
			return errors.New("it still hears a leader")
		case !strings.Contains(e.Why, "no leader is known") || !strings.Contains(e.Why, "on the disk") || e.Awaits == "":
			return fmt.Errorf("%+v", e)
		}
		return nil
	})
	for _, h := range p.file().Hosts[1:] {
		signalPID(t, h.PID, syscall.SIGCONT)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.awaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	if s, _, err := p.client(0).SPM(ctx, client.Read{Consistent: true}); err != nil || s.Explained == nil || s.Explained.Leader == "" {
		t.Errorf("%+v, %v", s, err)
	}
}
