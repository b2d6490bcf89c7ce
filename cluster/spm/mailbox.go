package spm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/mailbox"
)

// MailboxVolumes are the two volumes of the master domain by which hosts and the SPM talk through the storage.
type MailboxVolumes struct {
	Inbox, Outbox blockdev.Device
	// IOTimeout is the deadline of each read and write; it must be well below what the lease lasts. 0: the mailbox's default.
	IOTimeout time.Duration
}

// MailboxFunc finds the mailbox of a master domain that this host serves.
type MailboxFunc func(dom Domain) (MailboxVolumes, error)

// serveMailbox answers what hosts ask through the storage, until the session is about to end. What is not answered then stays
// where it is, and the next SPM finds it. It begins with a look at all pages, for what the last SPM left.
func (s *session) serveMailbox() {
	server, err := s.newMailbox()
	if err != nil {
		s.tell(fsm.Error, "mailbox.unserved", s.master.id, err.Error(), fmt.Sprintf("hosts cannot ask for space through the storage, only over the network: %v", err))
		return
	}
	s.mail.Store(server)
	if err := server.Run(s.asking); errors.Is(err, blockdev.ErrLeaseLost) {
		s.fail("the mailbox could not be answered: " + err.Error())
	}
}

// newMailbox makes the server; it does no I/O.
func (s *session) newMailbox() (*mailbox.Server, error) {
	v, err := s.r.cfg.Mailbox(s.master.dom)
	if err != nil {
		return nil, err
	}
	o := mailbox.DefaultServerOptions()
	if v.IOTimeout > 0 {
		o.IOTimeout = v.IOTimeout
	}
	return mailbox.NewServer(mailbox.ServerConfig{Inbox: v.Inbox, Outbox: v.Outbox, Guard: s.guard, Handler: asked{s}, Options: o,
		Log: s.r.cfg.Log.With("epoch", s.epoch)})
}

// asked carries out what hosts ask for through the storage, by the same way as what they ask for over the network.
type asked struct{ s *session }

// Extend extends a volume. Without space the request is kept, and answered "not done": the host asks again.
func (a asked) Extend(ctx context.Context, r mailbox.Request) error {
	req := ExtendRequest{Domain: r.Domain.String(), Volume: r.Volume.String(), Size: int64(r.SizeMiB) << 20, Unmirrored: true}
	if err := req.check(); err != nil {
		return err
	}
	_, err := a.s.extendVolume(ctx, req)
	return err
}

// MailboxStats counts what this host's mailbox did since it began to serve as SPM; false: it does not serve one.
func (r *Role) MailboxStats() (mailbox.ServerStats, bool) {
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	if s == nil {
		return mailbox.ServerStats{}, false
	}
	server := s.mail.Load()
	if server == nil {
		return mailbox.ServerStats{}, false
	}
	return server.Stats(), true
}
