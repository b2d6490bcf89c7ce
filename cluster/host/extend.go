package host

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/extend"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/mailbox"
)

// The volumes of the mailbox, named from the SPM's point of view.
const (
	lvInbox  = "inbox"
	lvOutbox = "outbox"
)

// clusterNode is what a runtime needs of this host's place in the cluster.
type clusterNode interface {
	spm.Cluster
	extend.RPC
	SPM() fsm.SPM
	// WaitIndex returns the mirror once it has applied an index.
	WaitIndex(ctx context.Context, index uint64) (*fsm.State, error)
}

// asking is how this host asks for larger volumes, on one keeper.
type asking struct {
	inbox, outbox blockdev.Device // for reading
	mailbox       *mailbox.Host
	extender      *extend.Extender
}

// newAsking makes it for a host that has its host id in the master's lockspace. Nothing runs yet.
func (rt *runtime) newAsking(l *luns, disk *domain.Domain) (*asking, error) {
	inbox, err := disk.Device(lvInbox)
	if err != nil {
		return nil, fmt.Errorf("the mailbox of domain %s: %w", l.id, err)
	}
	outbox, err := disk.Device(lvOutbox)
	if err != nil {
		return nil, fmt.Errorf("the mailbox of domain %s: %w", l.id, err)
	}
	a := &asking{inbox: inbox, outbox: outbox}
	o := mailbox.DefaultHostOptions()
	o.IOTimeout = callTimeout(rt.profile.IOTimeout)
	a.mailbox, err = mailbox.NewHost(mailbox.HostConfig{Inbox: blockdev.NewGuarded(inbox, l.guard), Outbox: outbox, HostID: rt.self.HostID,
		Options: o, Log: rt.log})
	if err != nil {
		return nil, err
	}
	a.extender, err = extend.New(extend.Config{RPC: rt.node, Mailbox: a.mailbox, SPM: rt.spmHost, Log: rt.log})
	return a, err
}

// spmHost is the host that is the SPM as far as this one knows, which may be late; empty: none.
func (rt *runtime) spmHost() string {
	spm := rt.node.SPM()
	if spm.State != fsm.SPMServing {
		return ""
	}
	return spm.Host
}

// serveAsking is this host's side of the mailbox, for as long as its host id is held and the master is that one; its end empties the
// page.
func (rt *runtime) serveAsking(ctx context.Context, p *presentMaster) {
	if p == nil {
		return
	}
	ctx, p.retire = context.WithCancel(ctx)
	rt.openers.Go(func() {
		if err := p.asking.mailbox.Run(ctx); err != nil {
			rt.log.Warn("this host's side of the mailbox", "domain", p.id, "err", err)
		}
	})
}

// mailboxVolumes are those of the master that this host serves as SPM.
func (rt *runtime) mailboxVolumes(dom spm.Domain) (spm.MailboxVolumes, error) {
	disk, ok := dom.(spm.Disk)
	if !ok {
		return spm.MailboxVolumes{}, fmt.Errorf("mailbox: %w", blockdev.ErrNotSupported)
	}
	inbox, err := disk.Device(lvInbox)
	if err != nil {
		return spm.MailboxVolumes{}, fmt.Errorf("mailbox: %w", err)
	}
	outbox, err := disk.Device(lvOutbox)
	if err != nil {
		return spm.MailboxVolumes{}, fmt.Errorf("mailbox: %w", err)
	}
	return spm.MailboxVolumes{Inbox: inbox, Outbox: outbox, IOTimeout: callTimeout(rt.profile.IOTimeout)}, nil
}

// Extend returns once the SPM says that the volume, given by the UUIDs of its domain and itself, has at least size bytes. It goes
// over the network or through the storage, whichever answers, and works without a quorum. Its error matches domain.ErrNoSpace
// when the SPM has no room now: it keeps the request, and asking again tells how it stands.
func (h *Host) Extend(ctx context.Context, domainID, volume string, size int64) error {
	return h.AskExtend(ctx, extend.Request{Domain: domainID, Volume: volume, Size: size})
}

// AskExtend is Extend with a word about how urgent it is.
func (h *Host) AskExtend(ctx context.Context, req extend.Request) error {
	a := h.asking()
	switch {
	case a != nil:
		return a.extender.Ask(ctx, req)
	case req.StorageOnly:
		return fmt.Errorf("extending volume %s: %w: %w", req.Volume, ErrNotOpen, ErrNoStorage)
	}
	return h.askByNetwork(ctx, req)
}

// asking is how this host asks; nil while the master is not open here.
func (h *Host) asking() *asking {
	if rt := h.runtime(); rt != nil {
		if p := rt.present.Load(); p != nil {
			return p.asking
		}
	}
	return nil
}

// askByNetwork asks for a volume while this host's storage is not up, so that it has no mailbox.
func (h *Host) askByNetwork(ctx context.Context, req extend.Request) error {
	node := h.Node()
	if node == nil {
		select {
		case <-h.settled:
			return cluster.ErrNotMember
		default:
			return fmt.Errorf("extending volume %s: the agent has just started: %w", req.Volume, ErrNotOpen)
		}
	}
	role := node.SPM()
	if role.State != fsm.SPMServing || role.Host == node.Name() {
		return fmt.Errorf("extending volume %s: no SPM is known, and through the storage it cannot be asked: %w: %w", req.Volume, ErrNotOpen, ErrNoStorage)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout+req.Wait)
	defer cancel()
	var rep spm.ExtendReply
	if err := node.Call(ctx, role.Host, spm.MethodExtend, spm.ExtendRequest{Domain: req.Domain, Volume: req.Volume, Size: req.Size,
		Paused: req.Paused, SecondsToFull: req.SecondsToFull, Wait: req.Wait, Unmirrored: true}, &rep); err != nil {
		return fmt.Errorf("extending volume %s: %w", req.Volume, err)
	}
	return rep.Err()
}

// ExtendStats counts what this host asked for, in all and by the mailbox; false while its storage is not up.
func (h *Host) ExtendStats() (extend.Stats, mailbox.HostStats, bool) {
	a := h.asking()
	if a == nil {
		return extend.Stats{}, mailbox.HostStats{}, false
	}
	return a.extender.Stats(), a.mailbox.Stats(), true
}
