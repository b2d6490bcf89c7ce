package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/mailbox"
)

// MailboxPage is what the storage says in the mailbox for one host.
type MailboxPage struct {
	HostID int
	Host   string         // the member with this id; empty: none
	Asked  []mailbox.Slot // slots in use of the host's page
	Answer []mailbox.Slot // slots in use of the SPM's page for it
	Err    error          // the host's page is between two states, or damaged
}

// MailboxView is the mailbox as it is on the storage.
type MailboxView struct {
	Domain string       // UUID of the master
	Event  mailbox.UUID // of the last ring; zero when nobody ever rang
	Pages  []MailboxPage
}

// Mailbox reads the mailbox from the master domain and lists the pages that say something. It changes nothing.
func (h *Host) Mailbox(ctx context.Context) (MailboxView, error) {
	rt := h.runtime()
	if rt == nil {
		return MailboxView{}, fmt.Errorf("%w: %w", ErrNotOpen, ErrNoStorage)
	}
	p := rt.present.Load()
	if p == nil {
		return MailboxView{}, fmt.Errorf("%w: %w", ErrNotOpen, errNoMaster)
	}
	inbox, err := rt.readMailbox(ctx, p.asking.inbox)
	if err != nil {
		return MailboxView{}, err
	}
	outbox, err := rt.readMailbox(ctx, p.asking.outbox)
	if err != nil {
		return MailboxView{}, err
	}
	v := MailboxView{Domain: p.id}
	if v.Event, err = mailbox.DecodeEvent(inbox[:mailbox.PageSize]); err != nil {
		return v, err
	}
	for id := 1; id <= mailbox.MaxHostID; id++ {
		p := decodePages(inbox[id*mailbox.PageSize:][:mailbox.PageSize], outbox[id*mailbox.PageSize:][:mailbox.PageSize])
		p.HostID, p.Host = id, rt.hostName(id)
		if p.Err != nil || len(p.Asked)+len(p.Answer) > 0 {
			v.Pages = append(v.Pages, p)
		}
	}
	return v, nil
}

// readMailbox reads all pages of hosts.
func (rt *runtime) readMailbox(ctx context.Context, dev blockdev.Device) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout(rt.profile.IOTimeout))
	defer cancel()
	p := make([]byte, (mailbox.MaxHostID+1)*mailbox.PageSize)
	if err := dev.ReadAt(ctx, p, 0); err != nil {
		return nil, fmt.Errorf("reading the mailbox: %w", err)
	}
	return p, nil
}

// decodePages reads what a host and the SPM say to each other.
func decodePages(in, out []byte) MailboxPage {
	var p MailboxPage
	var err error
	p.Asked, p.Err = mailbox.DecodeInboxPage(in)
	if p.Answer, err = mailbox.DecodeOutboxPage(out); err != nil {
		p.Err = errors.Join(p.Err, err)
	}
	return p
}
