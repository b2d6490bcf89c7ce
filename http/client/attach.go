package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
)

// onHost is a path for a host; an empty host is the one that is asked.
func onHost(path, host string) string {
	if host == "" {
		return path
	}
	return path + "?" + url.Values{"host": {host}}.Encode()
}

// AttachVolume makes a volume, by UUID or name, usable on a host and returns where it is. A lost answer is asked for once more.
func (c *Client) AttachVolume(ctx context.Context, ref, host string, req api.VolumeAttach) (api.Attachment, error) {
	return change[api.Attachment](ctx, c, call{method: http.MethodPost, path: onHost("/v1/volumes/"+url.PathEscape(ref)+"/attach", host), body: req,
		key: uuid.NewString()})
}

// DetachVolume undoes AttachVolume.
func (c *Client) DetachVolume(ctx context.Context, ref, host string, req api.VolumeDetach) (api.VolumeDetached, error) {
	return post[api.VolumeDetached](ctx, c, onHost("/v1/volumes/"+url.PathEscape(ref)+"/detach", host), req)
}

// SnapshotVolume puts a new leaf on an attached one under the guest that writes it there, and returns where the new one is.
func (c *Client) SnapshotVolume(ctx context.Context, ref, host string, req api.VolumeSnapshot, key string) (api.Attachment, error) {
	if key == "" {
		key = uuid.NewString()
	}
	return change[api.Attachment](ctx, c, call{method: http.MethodPost, path: onHost("/v1/volumes/"+url.PathEscape(ref)+"/snapshot", host), body: req, key: key})
}

// Attachments lists what is attached on a host; on all of them when it is empty, and which did not answer.
func (c *Client) Attachments(ctx context.Context, host string) (api.Attachments, error) {
	return change[api.Attachments](ctx, c, call{method: http.MethodGet, path: onHost("/v1/attachments", host)})
}
