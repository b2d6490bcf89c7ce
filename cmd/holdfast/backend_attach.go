package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
)

// AttachVolume makes a volume and its chain usable on this host. It needs the mirror for the volume's id and domain alone.
func (b *backend) AttachVolume(ctx context.Context, idOrName string, req api.VolumeAttach) (api.Attachment, error) {
	v, err := b.volumeSoon(ctx, idOrName)
	if err != nil {
		return api.Attachment{}, err
	}
	if err := b.refuseNew(v.Domain); err != nil {
		return api.Attachment{}, err
	}
	done, err := b.host.Admit()
	if err != nil {
		return api.Attachment{}, apiError(err)
	}
	defer done()
	a, err := b.attached.Attach(ctx, attach.Request{Domain: v.Domain, Volume: v.ID, ReadOnly: req.ReadOnly, Mapper: req.Mapper,
		QMP: attach.QMP{Socket: req.QMP, Node: req.QMPNode}})
	if err != nil {
		return api.Attachment{}, apiError(err)
	}
	return apiAttachment(b.host.Name(), a), nil
}

// mirrorLag is how long a volume is waited for that this host's mirror does not know: it may just have been made.
const mirrorLag = 2 * time.Second

// volumeSoon finds a volume in the mirror, now or in a moment.
func (b *backend) volumeSoon(ctx context.Context, idOrName string) (fsm.Volume, error) {
	n, err := b.node()
	if err != nil {
		return fsm.Volume{}, err
	}
	late := time.NewTimer(mirrorLag)
	defer late.Stop()
	for {
		changed := n.Changed()
		v, err := findVolume(n.View(), idOrName)
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeNotFound {
			return v, err
		}
		select {
		case <-changed:
		case <-late.C:
			return v, err
		case <-ctx.Done():
			return v, err
		}
	}
}

// DetachVolume undoes AttachVolume. What is attached here is found without the mirror, which may have lost the volume.
func (b *backend) DetachVolume(ctx context.Context, idOrName string, req api.VolumeDetach) (api.VolumeDetached, error) {
	v, err := b.attachedVolume(idOrName)
	if err != nil {
		return api.VolumeDetached{}, err
	}
	if err := b.attached.Detach(ctx, attach.Request{Domain: v.Domain, Volume: v.ID, Force: req.Force}); err != nil {
		return api.VolumeDetached{}, apiError(err)
	}
	return api.VolumeDetached{Volume: v.ID, Domain: v.Domain, Host: b.host.Name()}, nil
}

// SnapshotVolume puts a new leaf under the guest of a volume that is attached here.
func (b *backend) SnapshotVolume(ctx context.Context, idOrName string, req api.VolumeSnapshot, key string) (api.Attachment, error) {
	v, err := b.attachedVolume(idOrName)
	if err != nil {
		return api.Attachment{}, err
	}
	a, err := b.attached.Snapshot(ctx, attach.SnapshotRequest{Domain: v.Domain, Volume: v.ID, Name: req.Name, Key: key})
	if err != nil {
		return api.Attachment{}, apiError(err)
	}
	return apiAttachment(b.host.Name(), a), nil
}

// attachedVolume finds a volume among those that are attached here, by what it is called now or was called then.
func (b *backend) attachedVolume(idOrName string) (fsm.Volume, error) {
	v := fsm.Volume{}
	st, err := b.state()
	if err == nil {
		v, err = findVolume(st, idOrName)
	}
	if err == nil {
		return v, nil
	}
	for _, a := range b.attached.List() {
		if a.Volume == idOrName || a.Name == idOrName {
			return fsm.Volume{ID: a.Volume, Domain: a.Domain}, nil
		}
	}
	return v, err
}

// Attachments lists what is attached on this host.
func (b *backend) Attachments(ctx context.Context) ([]api.Attachment, error) {
	if _, err := b.node(); err != nil {
		return nil, err
	}
	var out []api.Attachment
	for _, a := range b.attached.ListNow(ctx) {
		out = append(out, apiAttachment(b.host.Name(), a))
	}
	return out, nil
}

// apiAttachment is an attached volume as the API shows it.
func apiAttachment(hostName string, a attach.Attachment) api.Attachment {
	out := api.Attachment{
		Volume: a.Volume, Domain: a.Domain, Name: a.Name, Host: hostName, ReadOnly: a.ReadOnly, State: a.State, Problem: a.Problem,
		Mapper: a.Mapper, URI: a.Where.URI, Path: a.Where.Path, Format: a.Format, Since: a.Since.UTC(), Chain: []api.AttachedLayer{},
		Size: a.Status.SizeBytes, Allocated: a.Status.AllocatedBytes, Written: a.Status.HighBytes,
		QMP: a.QMP.Socket, QMPNode: a.QMP.Node, QMPConnected: a.Watched, QMPProblem: a.QMPProblem,
		WritesWaited: a.Status.Waited, WritesRefused: a.Status.Denied,
	}
	for _, r := range a.Chain {
		out.Chain = append(out.Chain, api.AttachedLayer{Volume: r.Volume, Format: r.Format, ReadOnly: r.ReadOnly, URI: r.Where.URI, Path: r.Where.Path})
	}
	if a.Problem == "" {
		out.BlockDev = attach.BlockDev(a.Chain)
	}
	if a.Waiting != nil {
		out.WaitingSince, out.WaitingFor = a.Waiting.Since.UTC(), a.Waiting.Reason
	}
	return out
}

// attachedWarnings says what is not well with the volumes that are attached on this host.
func attachedWarnings(list []attach.Attachment) []api.Warning {
	var out []api.Warning
	for _, a := range list {
		w := api.Warning{Severity: api.SeverityWarning, Subject: "volume/" + cmp.Or(a.Name, a.Volume)}
		switch {
		case a.State == attach.StateBroken:
			w.Severity, w.Message, w.NextStep = api.SeverityError, a.Problem, "stop what uses it, then holdfast volume detach"
		case a.Problem != "":
			w.Message = "attached here and cannot be used: " + a.Problem
		case a.Waiting != nil:
			w.Message = fmt.Sprintf("waits for space since %s: %s", a.Waiting.Since.UTC().Format(time.RFC3339), a.Waiting.Reason)
			w.NextStep = "add space to the domain, or delete volumes"
		default:
			continue
		}
		out = append(out, w)
	}
	return out
}

// attachRules are the errors of attached volumes.
var attachRules = []errorRule{
	{attach.ErrUnfinished, api.CodeOutcomeUnknown, "the host goes on by itself; holdfast volume show says what is attached"},
	{attach.ErrNoQMP, api.CodeConflict, "holdfast volume attach --qmp SOCKET, or stop the guest and detach the volume"},
	{attach.ErrStillThere, api.CodeOutcomeUnknown, "the host goes on by itself; holdfast volume show says when the volume is free"},
	{attach.ErrNotAttached, api.CodeConflict, "holdfast volume show says where it is attached"},
	{attach.ErrOtherwise, api.CodeConflict, "detach it first"},
	{attach.ErrClients, api.CodeBusy, "end what uses it, or use --force (force=true), which cuts it off"},
	{attach.ErrChain, api.CodeConflict, "holdfast volume show tells its type and parent"},
	{attach.ErrQMP, api.CodeInvalid, "--qmp is the path of a socket on that host, and --node a node of the QEMU there"},
	{attach.ErrMapper, api.CodeInvalid, "leave --mapper out, and the host chooses"},
	{attach.ErrRefused, api.CodeUnavailable, "nothing was changed; look at the reason and try again"},
	{attach.ErrIllegal, api.CodeConflict, "see holdfast events for the operation that failed"},
	{attach.ErrChanged, api.CodeConflict, "try again"},
	{attach.ErrUnflushed, api.CodeDevice, "what had not been flushed before may be lost, as at a loss of power; check the path to the LUN before it is attached again"},
	{attach.ErrNotRecorded, api.CodeUnavailable, "look after that host's local disk, where its data_dir is, and try again; nothing was done"},
	{attach.ErrNotRunning, api.CodeUnavailable, "try again in a moment"},
}
