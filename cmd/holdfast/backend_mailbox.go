package main

import (
	"context"

	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/mailbox"
)

// Mailbox reads the storage mailbox.
func (b *backend) Mailbox(ctx context.Context) (api.Mailbox, error) {
	v, err := b.host.Mailbox(ctx)
	if err != nil {
		return api.Mailbox{}, apiError(err)
	}
	return apiMailbox(v), nil
}

// apiMailbox is the mailbox as the API shows it.
func apiMailbox(v host.MailboxView) api.Mailbox {
	out := api.Mailbox{Domain: v.Domain, Hosts: []api.MailboxHost{}}
	if v.Event != (mailbox.UUID{}) {
		out.Event = v.Event.String()
	}
	for _, p := range v.Pages {
		h := api.MailboxHost{HostID: p.HostID, Host: p.Host, Slots: mailboxSlots(p)}
		if p.Err != nil {
			h.Error = p.Err.Error()
		}
		out.Hosts = append(out.Hosts, h)
	}
	return out
}

// mailboxSlots puts what both say in a slot beside each other.
func mailboxSlots(p host.MailboxPage) []api.MailboxSlot {
	asked, answer := map[int]mailbox.Slot{}, map[int]mailbox.Slot{}
	for _, s := range p.Asked {
		asked[s.Index] = s
	}
	for _, s := range p.Answer {
		answer[s.Index] = s
	}
	out := []api.MailboxSlot{}
	for i := range mailbox.Slots {
		a, mine := asked[i]
		b, theirs := answer[i]
		if !mine && !theirs {
			continue
		}
		s := api.MailboxSlot{Slot: i, Host: mailboxSide(a), SPM: mailboxSide(b), Phase: mailboxPhase(a, b)}
		for _, m := range []mailbox.Slot{b, a} {
			if m.State == mailbox.Asking {
				s.Volume, s.Domain = m.Message.Volume.String(), m.Message.Domain.String()
			}
		}
		out = append(out, s)
	}
	return out
}

func mailboxSide(s mailbox.Slot) api.MailboxSide {
	side := api.MailboxSide{State: s.State.String()}
	if s.State == mailbox.Asking {
		side.Size = int64(s.Message.SizeMiB) << 20
	}
	if s.Err != nil {
		side.Error = s.Err.Error()
	}
	return side
}

// mailboxPhase names where in the hand-shake a slot is.
func mailboxPhase(host, server mailbox.Slot) string {
	switch {
	case host.State == mailbox.Unreadable || server.State == mailbox.Unreadable:
		return "unreadable"
	case host.State == mailbox.Asking && server.State == mailbox.Asking && server.Message.SizeMiB == 0:
		return "refused"
	case host.State == mailbox.Asking && server.State == mailbox.Asking:
		return "answered"
	case host.State == mailbox.Asking:
		return "asked"
	case host.State == mailbox.Clean && server.State == mailbox.Clean:
		return "acknowledged"
	case host.State == mailbox.Clean:
		return "cleaned"
	}
	return "idle"
}
