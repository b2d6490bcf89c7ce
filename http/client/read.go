package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// Read says how new an answer has to be.
type Read struct {
	// Consistent asks the leader.
	Consistent bool
	// After waits for a mirror newer than this index; 0 does not wait.
	After uint64
	// Timeout bounds that wait; 0 is the server's default.
	Timeout time.Duration
}

func (r Read) values() url.Values {
	q := url.Values{}
	if r.Consistent {
		q.Set("consistent", "true")
	}
	if r.After > 0 {
		q.Set("wait", strconv.FormatUint(r.After, 10))
	}
	if r.Timeout > 0 {
		q.Set("timeout", r.Timeout.String())
	}
	return q
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, Mark, error) {
	var v T
	m, err := c.do(ctx, call{method: http.MethodGet, path: path, query: q, out: &v})
	return v, m, plain(err)
}

// Health asks how the agent is; an unhealthy agent is no error.
func (c *Client) Health(ctx context.Context) (api.Health, error) {
	v, _, err := get[api.Health](ctx, c, "/healthz", nil)
	return v, err
}

// Status returns the whole pool.
func (c *Client) Status(ctx context.Context, r Read) (api.Status, Mark, error) {
	return get[api.Status](ctx, c, "/v1/status", r.values())
}

// Mailbox reads the storage mailbox on the host that is asked.
func (c *Client) Mailbox(ctx context.Context) (api.Mailbox, error) {
	v, _, err := get[api.Mailbox](ctx, c, "/v1/mailbox", nil)
	return v, err
}

// Hosts lists the hosts.
func (c *Client) Hosts(ctx context.Context, r Read) ([]api.Host, Mark, error) {
	return get[[]api.Host](ctx, c, "/v1/hosts", r.values())
}

// Host returns one host.
func (c *Client) Host(ctx context.Context, name string, r Read) (api.Host, Mark, error) {
	return get[api.Host](ctx, c, "/v1/hosts/"+url.PathEscape(name), r.values())
}

// Domains lists the storage domains.
func (c *Client) Domains(ctx context.Context, r Read) ([]api.Domain, Mark, error) {
	return get[[]api.Domain](ctx, c, "/v1/domains", r.values())
}

// Domain returns one domain by UUID or name.
func (c *Client) Domain(ctx context.Context, ref string, r Read) (api.Domain, Mark, error) {
	return get[api.Domain](ctx, c, "/v1/domains/"+url.PathEscape(ref), r.values())
}

// Images lists the images, of all domains or of one.
func (c *Client) Images(ctx context.Context, domain string, r Read) ([]api.Image, Mark, error) {
	q := r.values()
	if domain != "" {
		q.Set("domain", domain)
	}
	return get[[]api.Image](ctx, c, "/v1/images", q)
}

// Image returns one image, by UUID or the name of a volume of it.
func (c *Client) Image(ctx context.Context, ref string, r Read) (api.Image, Mark, error) {
	return get[api.Image](ctx, c, "/v1/images/"+url.PathEscape(ref), r.values())
}

// VolumeFilter narrows a list; empty fields match everything.
type VolumeFilter struct{ Domain, Image, Name string }

// Volumes lists volumes.
func (c *Client) Volumes(ctx context.Context, f VolumeFilter, r Read) ([]api.Volume, Mark, error) {
	q := r.values()
	for k, v := range map[string]string{"domain": f.Domain, "image": f.Image, "name": f.Name} {
		if v != "" {
			q.Set(k, v)
		}
	}
	return get[[]api.Volume](ctx, c, "/v1/volumes", q)
}

// Volume returns one volume by UUID or name.
func (c *Client) Volume(ctx context.Context, ref string, r Read) (api.Volume, Mark, error) {
	return get[api.Volume](ctx, c, "/v1/volumes/"+url.PathEscape(ref), r.values())
}

// SPM says who may write.
func (c *Client) SPM(ctx context.Context, r Read) (api.SPM, Mark, error) {
	return get[api.SPM](ctx, c, "/v1/spm", r.values())
}

// RaftPeers lists the members of the Raft configuration.
func (c *Client) RaftPeers(ctx context.Context) ([]api.RaftPeer, error) {
	v, _, err := get[[]api.RaftPeer](ctx, c, "/v1/operator/raft/peers", nil)
	return v, err
}

// Tokens lists the tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context) ([]api.Token, error) {
	v, _, err := get[[]api.Token](ctx, c, "/v1/operator/tokens", nil)
	return v, err
}

// OpenAPI returns the document that describes the API.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	v, _, err := get[[]byte](ctx, c, "/v1/openapi.yaml", nil)
	return v, err
}
