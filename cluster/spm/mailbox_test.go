package spm

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/mailbox"
)

const poolDomain = "8adbc85e-e554-4ae0-b318-8a5465fe5fe1"

// post is a mailbox on two volumes in memory, and a host that asks by it.
type post struct {
	inbox, outbox blockdev.Device
	host          *mailbox.Host
}

// newPost starts host 2's side; it ends with the test.
func newPost(t *testing.T) *post {
	t.Helper()
	p := &post{inbox: blockdev.NewMem(16<<20, 512), outbox: blockdev.NewMem(16<<20, 512)}
	var err error
	p.host, err = mailbox.NewHost(mailbox.HostConfig{Inbox: p.inbox, Outbox: p.outbox, HostID: 2, Options: mailbox.DefaultHostOptions(),
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.host.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

// volumes is what a role serves.
func (p *post) volumes(Domain) (MailboxVolumes, error) {
	return MailboxVolumes{Inbox: p.inbox, Outbox: p.outbox}, nil
}

// ask asks for a volume of whole GiB.
func (p *post) ask(t *testing.T, dom, volume string, gibs uint32) error {
	t.Helper()
	d, err := mailbox.ParseUUID(dom)
	if err != nil {
		t.Fatal(err)
	}
	v, err := mailbox.ParseUUID(volume)
	if err != nil {
		t.Fatal(err)
	}
	return p.host.Extend(t.Context(), mailbox.Message{Domain: d, Volume: v, SizeMiB: gibs << 10})
}

// withPost runs fn with two hosts that can be SPM and serve the mailbox; the first one is.
func withPost(t *testing.T, fn func(t *testing.T, l *lun, m *fakeMirror, a, b *Role, held *hostLease, p *post)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, m, p := newLUN(), &fakeMirror{}, newPost(t)
		l.id = poolDomain
		served := func(c *Config) { c.Mailbox = p.volumes }
		a, held := newRole(t, l, m, 1, served)
		b, _ := newRole(t, l, m, 2, served)
		if _, err := a.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		fn(t, l, m, a, b, held, p)
	})
}

func TestMailbox_extends(t *testing.T) {
	withPost(t, func(t *testing.T, l *lun, m *fakeMirror, a, _ *Role, _ *hostLease, p *post) {
		id := made(t, a, "a")
		begun := time.Now()
		if err := p.ask(t, poolDomain, id, 3); err != nil || time.Since(begun) > 300*time.Millisecond {
			t.Fatalf("%v after %v", err, time.Since(begun))
		}
		time.Sleep(time.Second)
		if v := m.has(id); v.AllocatedBytes != 3*gib {
			t.Errorf("the mirror has %+v", v)
		}
		m.setDown(true)
		begun = time.Now()
		if err := p.ask(t, poolDomain, id, 4); err != nil || time.Since(begun) > 300*time.Millisecond {
			t.Errorf("without a quorum: %v after %v", err, time.Since(begun))
		}
		for name, c := range map[string]struct{ dom, vol string }{
			"another pool's domain": {"11111111-0000-4000-8000-000000000001", id},
			"no such volume":        {poolDomain, "11111111-0000-4000-8000-000000000001"},
		} {
			if err := p.ask(t, c.dom, c.vol, 1); !errors.Is(err, mailbox.ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s, ok := a.MailboxStats(); !ok || s.Requests != 4 || s.Answered != 4 || s.Refused != 2 {
			t.Errorf("%v, %+v", ok, s)
		}
	})
}

// Without space the answer comes at once, the request is kept, and asking again finds it done.
func TestMailbox_outOfSpace(t *testing.T) {
	withPost(t, func(t *testing.T, l *lun, _ *fakeMirror, a, _ *Role, _ *hostLease, p *post) {
		id := made(t, a, "a")
		l.fill(0)
		if err := p.ask(t, poolDomain, id, 3); !errors.Is(err, mailbox.ErrRefused) {
			t.Fatalf("%v", err)
		}
		if w := a.Waiting(); len(w) != 1 || w[0].Size != 3*gib {
			t.Fatalf("waiting: %+v", w)
		}
		l.fill(10 * gib)
		a.SpaceAppeared(poolDomain)
		synctest.Wait()
		if got := l.order(); len(got) != 1 {
			t.Errorf("served %v", got)
		}
		if err := p.ask(t, poolDomain, id, 3); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

// A request that is there while nobody is SPM is served by the next one, once.
func TestMailbox_nextSPMServesWhatIsPending(t *testing.T) {
	withPost(t, func(t *testing.T, l *lun, _ *fakeMirror, a, b *Role, _ *hostLease, p *post) {
		id := made(t, a, "a")
		if _, err := a.Stop(t.Context(), StopRequest{Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		answer := make(chan error, 1)
		go func() { answer <- p.ask(t, poolDomain, id, 2) }()
		time.Sleep(5 * time.Second)
		begun := time.Now()
		if _, err := b.Start(t.Context(), StartRequest{ExpectVersion: 4}); err != nil {
			t.Fatal(err)
		}
		if err := <-answer; err != nil || time.Since(begun) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if len(l.order()) != 1 {
			t.Errorf("extended %v", l.order())
		}
		if _, ok := a.MailboxStats(); ok {
			t.Error("a host that is not SPM any more serves a mailbox")
		}
	})
}

// The role moves while a request hangs on the disk, and another one comes meanwhile: neither is answered "not done" by who leaves, and
// both are done by who comes.
func TestMailbox_moveWhileARequestHangs(t *testing.T) {
	withPost(t, func(t *testing.T, l *lun, _ *fakeMirror, a, b *Role, _ *hostLease, p *post) {
		id, other := made(t, a, "a"), made(t, a, "b")
		l.mu.Lock()
		hang := make(chan struct{})
		l.hang = hang
		l.mu.Unlock()
		answer := make(chan error, 2)
		go func() { answer <- p.ask(t, poolDomain, id, 2) }()
		time.Sleep(time.Second)
		stopped := make(chan error, 1)
		go func() {
			_, err := a.Stop(t.Context(), StopRequest{Reason: "test"})
			stopped <- err
		}()
		time.Sleep(time.Second) // it waits for the request in flight
		go func() { answer <- p.ask(t, poolDomain, other, 2) }()
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-answer:
			t.Fatalf("answered by who gave the role up: %v", err)
		default:
		}
		l.mu.Lock()
		close(hang)
		l.hang = nil
		l.mu.Unlock()
		if _, err := b.Start(t.Context(), StartRequest{ExpectVersion: 4}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-answer; err != nil {
				t.Error(err)
			}
		}
	})
}

// watched counts writes to the outbox, and those after the lease was given up.
type watched struct {
	blockdev.Device
	held  *hostLease
	after func() // of the next write, once
	wrong int
}

func (w *watched) WriteAt(ctx context.Context, p []byte, off int64) error {
	w.held.mu.Lock()
	if w.held.held == 0 || w.held.lost {
		w.wrong++
	}
	w.held.mu.Unlock()
	err := w.Device.WriteAt(ctx, p, off)
	if f := w.after; f != nil {
		w.after = nil
		f()
	}
	return err
}

// Nothing is written to the mailbox once the lease is lost or released.
func TestMailbox_writesUnderTheLeaseOnly(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, r *Role, h *hostLease){
		"released": func(t *testing.T, r *Role, _ *hostLease) {
			if _, err := r.Stop(t.Context(), StopRequest{Reason: "test"}); err != nil {
				t.Error(err)
			}
		},
		"lost": func(_ *testing.T, _ *Role, h *hostLease) { h.lose() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, m, p := newLUN(), &fakeMirror{}, newPost(t)
				l.id = poolDomain
				w := &watched{Device: p.outbox}
				r, held := newRole(t, l, m, 1, func(c *Config) {
					c.Mailbox = func(Domain) (MailboxVolumes, error) { return MailboxVolumes{Inbox: p.inbox, Outbox: w}, nil }
				})
				w.held = held
				if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
					t.Fatal(err)
				}
				id := made(t, r, "a")
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				if err := p.ask(t, poolDomain, id, 1); err != nil {
					t.Fatal(err)
				}
				end(t, r, held)
				d, _ := mailbox.ParseUUID(poolDomain)
				v, _ := mailbox.ParseUUID(id)
				if err := p.host.Extend(ctx, mailbox.Message{Domain: d, Volume: v, SizeMiB: 5 << 10}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("answered without an SPM: %v", err)
				}
				if st := r.Status(); st.State != StateNone || w.wrong > 0 {
					t.Errorf("%+v, %d writes without the lease", st, w.wrong)
				}
			})
		})
	}
}

// The lease goes just after an answer was written, and the host says that it saw it before anybody notices: the acknowledgement is
// not written any more.
func TestMailbox_asksTheGuardBeforeEachWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, m, p := newLUN(), &fakeMirror{}, newPost(t)
		l.id = poolDomain
		w := &watched{Device: p.outbox}
		r, held := newRole(t, l, m, 1, func(c *Config) {
			c.Mailbox = func(Domain) (MailboxVolumes, error) { return MailboxVolumes{Inbox: p.inbox, Outbox: w}, nil }
			c.GuardPoll = time.Second
		})
		w.held = held
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		id := made(t, r, "a")
		synctest.Wait()
		w.after = held.lose
		if err := p.ask(t, poolDomain, id, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if st := r.Status(); st.State != StateNone || w.wrong > 0 {
			t.Errorf("%+v, %d writes without the lease", st, w.wrong)
		}
	})
}

// A domain without a usable mailbox is served all the same, and somebody hears of it.
func TestMailbox_unusable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, m := newLUN(), &fakeMirror{}
		events := make(chan string, 4)
		r, _ := newRole(t, l, m, 1, func(c *Config) {
			c.Mailbox = func(Domain) (MailboxVolumes, error) {
				return MailboxVolumes{Inbox: blockdev.NewMem(1<<16, 512), Outbox: blockdev.NewMem(1<<16, 512)}, nil
			}
			c.Report = func(_ context.Context, e fsm.Event) error { events <- e.Kind; return nil }
		})
		if _, err := r.Start(t.Context(), StartRequest{ExpectVersion: 3}); err != nil {
			t.Fatal(err)
		}
		id := made(t, r, "a")
		synctest.Wait()
		if len(events) != 1 || <-events != "mailbox.unserved" {
			t.Error("nobody heard of it")
		}
		if _, err := r.ExtendVolume(t.Context(), ExtendRequest{Volume: id, Size: gib}); err != nil {
			t.Error(err)
		}
	})
}
