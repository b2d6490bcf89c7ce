package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
)

func change[T any](ctx context.Context, c *Client, rq call) (T, error) {
	var v T
	rq.out = &v
	_, err := c.do(ctx, rq)
	return v, err
}

func post[T any](ctx context.Context, c *Client, path string, body any) (T, error) {
	return change[T](ctx, c, call{method: http.MethodPost, path: path, body: body, once: true})
}

// CreateVolume makes a volume. An empty key is replaced by a new one; a lost answer is asked for once more with the
// same key, which gives the same volume.
func (c *Client) CreateVolume(ctx context.Context, req api.VolumeCreate, key string) (api.VolumeCreated, error) {
	if key == "" {
		key = uuid.NewString()
	}
	return change[api.VolumeCreated](ctx, c, call{method: http.MethodPost, path: "/v1/volumes", body: req, key: key})
}

// UpdateVolume changes a volume's name or description, by UUID or name. A lost answer is not asked for again: whoever wants to
// know looks at the volume, since somebody else may have changed it meanwhile.
func (c *Client) UpdateVolume(ctx context.Context, ref string, req api.VolumeUpdate) (api.VolumeUpdated, error) {
	return change[api.VolumeUpdated](ctx, c, call{method: http.MethodPatch, path: "/v1/volumes/" + url.PathEscape(ref), body: req, once: true})
}

// DeleteVolume deletes a volume by UUID or name.
func (c *Client) DeleteVolume(ctx context.Context, ref string) (api.VolumeDeleted, error) {
	return change[api.VolumeDeleted](ctx, c, call{method: http.MethodDelete, path: "/v1/volumes/" + url.PathEscape(ref), once: true})
}

// ExtendVolume makes a volume at least as large as asked on its domain, by UUID or name. Doing it twice changes nothing more.
func (c *Client) ExtendVolume(ctx context.Context, ref string, req api.VolumeExtend) (api.VolumeExtended, error) {
	return change[api.VolumeExtended](ctx, c, call{method: http.MethodPost, path: "/v1/volumes/" + url.PathEscape(ref) + "/extend", body: req,
		key: uuid.NewString()})
}

// SetHost changes settings of a host.
func (c *Client) SetHost(ctx context.Context, name string, req api.HostSet) (api.Host, error) {
	return change[api.Host](ctx, c, call{method: http.MethodPatch, path: "/v1/hosts/" + url.PathEscape(name), body: req, once: true})
}

// MaintainHost wants a host out of use, and waits as long as the request says until it is.
func (c *Client) MaintainHost(ctx context.Context, name string, req api.HostMaintain) (api.Host, error) {
	return post[api.Host](ctx, c, "/v1/hosts/"+url.PathEscape(name)+"/maintenance", req)
}

// ActivateHost takes that back, and waits as long as the request says until the host is up.
func (c *Client) ActivateHost(ctx context.Context, name string, req api.HostActivate) (api.Host, error) {
	return post[api.Host](ctx, c, "/v1/hosts/"+url.PathEscape(name)+"/activate", req)
}

// SetDomain changes settings of a domain, by UUID or name.
func (c *Client) SetDomain(ctx context.Context, ref string, req api.DomainSet) (api.Domain, error) {
	return change[api.Domain](ctx, c, call{method: http.MethodPatch, path: "/v1/domains/" + url.PathEscape(ref), body: req, once: true})
}

// ActivateDomain takes a domain back into use, or has every host try again to reach it, by UUID or name. Doing it twice changes nothing
// more.
func (c *Client) ActivateDomain(ctx context.Context, ref string, req api.DomainWish) (api.Domain, error) {
	return post[api.Domain](ctx, c, "/v1/domains/"+url.PathEscape(ref)+"/activate", req)
}

// DeactivateDomain takes a domain out of use, by UUID or name. Doing it twice changes nothing more.
func (c *Client) DeactivateDomain(ctx context.Context, ref string, req api.DomainWish) (api.Domain, error) {
	return post[api.Domain](ctx, c, "/v1/domains/"+url.PathEscape(ref)+"/deactivate", req)
}

// CreateDomain makes a storage domain.
func (c *Client) CreateDomain(ctx context.Context, req api.DomainCreate) (api.DomainCreated, error) {
	return post[api.DomainCreated](ctx, c, "/v1/domains", req)
}

// ExtendDomain adds a LUN to a domain. A lost answer is not asked for again: a LUN that is part of the domain is refused as such.
func (c *Client) ExtendDomain(ctx context.Context, ref string, req api.DomainExtend) (api.DomainExtended, error) {
	return post[api.DomainExtended](ctx, c, "/v1/domains/"+url.PathEscape(ref)+"/extend", req)
}

// SnapshotImage makes a new leaf on that of an image, by UUID or the name of a volume of it. The key is as for CreateVolume.
func (c *Client) SnapshotImage(ctx context.Context, ref string, req api.ImageSnapshot, key string) (api.VolumeCreated, error) {
	if key == "" {
		key = uuid.NewString()
	}
	return change[api.VolumeCreated](ctx, c, call{method: http.MethodPost, path: "/v1/images/" + url.PathEscape(ref) + "/snapshot", body: req, key: key})
}

// CheckDomain lists every inconsistency of a domain. It changes nothing.
func (c *Client) CheckDomain(ctx context.Context, ref string) (api.Check, error) {
	return change[api.Check](ctx, c, call{method: http.MethodPost, path: "/v1/domains/" + url.PathEscape(ref) + "/check", once: true})
}

// SetMaster makes a domain, by UUID or name, the pool's master.
func (c *Client) SetMaster(ctx context.Context, ref string, req api.MasterSet) (api.MasterChanged, error) {
	return post[api.MasterChanged](ctx, c, "/v1/domains/"+url.PathEscape(ref)+"/set-master", req)
}

// ReconstructMaster makes a domain the pool's master in the place of one that is lost for good.
func (c *Client) ReconstructMaster(ctx context.Context, ref string, req api.MasterReconstruct) (api.MasterReconstructed, error) {
	return post[api.MasterReconstructed](ctx, c, "/v1/domains/"+url.PathEscape(ref)+"/reconstruct", req)
}

// ConfirmRebooted gives a person's word that a host writes nothing any more.
func (c *Client) ConfirmRebooted(ctx context.Context, name string, req api.HostConfirm) (api.HostConfirmed, error) {
	return post[api.HostConfirmed](ctx, c, "/v1/hosts/"+url.PathEscape(name)+"/confirm-rebooted", req)
}

// RemoveHost takes a host out of the cluster that is dead and cannot leave by itself.
func (c *Client) RemoveHost(ctx context.Context, name string, req api.HostRemove) (api.HostRemoved, error) {
	return post[api.HostRemoved](ctx, c, "/v1/hosts/"+url.PathEscape(name)+"/remove", req)
}

// MoveSPM moves the role and returns when the new host serves.
func (c *Client) MoveSPM(ctx context.Context, req api.SPMMove) (api.SPM, error) {
	return post[api.SPM](ctx, c, "/v1/spm/move", req)
}

// StopSPM lets nobody have the role.
func (c *Client) StopSPM(ctx context.Context, req api.SPMStop) (api.SPM, error) {
	return post[api.SPM](ctx, c, "/v1/spm/stop", req)
}

// StartSPM takes a StopSPM back.
func (c *Client) StartSPM(ctx context.Context, req api.SPMStart) (api.SPM, error) {
	return post[api.SPM](ctx, c, "/v1/spm/start", req)
}

// TransferLeadership makes another host the Raft leader.
func (c *Client) TransferLeadership(ctx context.Context, req api.RaftTransfer) ([]api.RaftPeer, error) {
	return post[[]api.RaftPeer](ctx, c, "/v1/operator/raft/transfer", req)
}

// CreateToken makes a token; only this answer shows its secret.
func (c *Client) CreateToken(ctx context.Context, req api.TokenCreate) (api.TokenCreated, error) {
	return post[api.TokenCreated](ctx, c, "/v1/operator/tokens", req)
}

// RevokeToken takes a token back.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/v1/operator/tokens/" + url.PathEscape(id), once: true})
	return err
}

// Init makes the host the first of a new cluster.
func (c *Client) Init(ctx context.Context, req api.Init) (api.Member, error) {
	return post[api.Member](ctx, c, "/v1/init", req)
}

// Join makes the host a member of a cluster.
func (c *Client) Join(ctx context.Context, req api.Join) (api.Member, error) {
	return post[api.Member](ctx, c, "/v1/join", req)
}

// Leave takes the host out of its cluster.
func (c *Client) Leave(ctx context.Context, req api.Leave) (api.Member, error) {
	return post[api.Member](ctx, c, "/v1/leave", req)
}
