package apitest

import (
	"context"

	"github.com/holdfast-io/holdfast/http/api"
)

func attachment() api.Attachment {
	const uri = "nbd+unix:///" + VolumeID + "?socket=/run/holdfast/nbd/0.nbd"
	return api.Attachment{Volume: VolumeID, Domain: DomainID, Name: "web1", Host: "h1", State: api.AttachmentAttached, Mapper: "nbd",
		URI: uri, Format: api.FormatQCOW2, Since: Now, BlockDev: []map[string]any{{"driver": "qcow2", "backing": nil}},
		Chain: []api.AttachedLayer{{Volume: VolumeID, Format: api.FormatQCOW2, URI: uri}}, Size: 11 << 30, Allocated: 1 << 30,
		WaitingSince: Now, WaitingFor: "the domain is full"}
}

// AttachVolume implements httpapi.Attachments.
func (f *Fake) AttachVolume(_ context.Context, _ string, req api.VolumeAttach) (api.Attachment, error) {
	a := attachment()
	a.ReadOnly = req.ReadOnly
	return a, f.fail()
}

// SnapshotVolume implements httpapi.Attachments.
func (f *Fake) SnapshotVolume(_ context.Context, _ string, req api.VolumeSnapshot, _ string) (api.Attachment, error) {
	a := attachment()
	a.Name = req.Name
	return a, f.fail()
}

// DetachVolume implements httpapi.Attachments: the one volume has a client.
func (f *Fake) DetachVolume(_ context.Context, ref string, req api.VolumeDetach) (api.VolumeDetached, error) {
	if !req.Force {
		return api.VolumeDetached{}, api.Errorf(api.CodeBusy, "use force", "volume %s is in use", ref)
	}
	return api.VolumeDetached{Volume: VolumeID, Domain: DomainID, Host: "h1"}, f.fail()
}

// Attachments implements httpapi.Attachments.
func (f *Fake) Attachments(context.Context) ([]api.Attachment, error) {
	return []api.Attachment{attachment()}, f.fail()
}
