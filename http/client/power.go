package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/holdfast-io/holdfast/http/api"
)

func powerPath(host string) string { return "/v1/hosts/" + url.PathEscape(host) + "/power" }

func devicePath(host, device string) string {
	return powerPath(host) + "/devices/" + url.PathEscape(device)
}

// PowerDevices lists the power devices of a host.
func (c *Client) PowerDevices(ctx context.Context, host string, r Read) ([]api.PowerDevice, Mark, error) {
	return get[[]api.PowerDevice](ctx, c, powerPath(host)+"/devices", r.values())
}

// SetPowerDevice adds a power device or replaces it.
func (c *Client) SetPowerDevice(ctx context.Context, host, device string, req api.PowerDeviceSet) (api.PowerDevice, error) {
	return change[api.PowerDevice](ctx, c, call{method: http.MethodPut, path: devicePath(host, device), body: req, once: true})
}

// RemovePowerDevice forgets a power device.
func (c *Client) RemovePowerDevice(ctx context.Context, host, device string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: devicePath(host, device), once: true})
	return err
}

// PowerStatus asks the power devices of a host.
func (c *Client) PowerStatus(ctx context.Context, host string) (api.PowerStatus, error) {
	v, _, err := get[api.PowerStatus](ctx, c, powerPath(host), nil)
	return v, err
}

// PowerHealth looks which power actions would work, through a host of the caller's choice or the best one.
func (c *Client) PowerHealth(ctx context.Context, host, through string) (api.PowerHealth, error) {
	q := url.Values{}
	if through != "" {
		q.Set("through", through)
	}
	v, _, err := get[api.PowerHealth](ctx, c, powerPath(host)+"/health", q)
	return v, err
}

// PowerOrder fences a host or switches its power. An operation without an outcome goes on.
func (c *Client) PowerOrder(ctx context.Context, host string, req api.PowerOrder) (api.FenceOp, error) {
	return post[api.FenceOp](ctx, c, powerPath(host), req)
}

// Fencing shows how silent hosts are fenced.
func (c *Client) Fencing(ctx context.Context, r Read) (api.Fencing, Mark, error) {
	return get[api.Fencing](ctx, c, "/v1/fencing", r.values())
}

// SetFencing changes how silent hosts are fenced.
func (c *Client) SetFencing(ctx context.Context, req api.FencingSet) (api.Fencing, error) {
	return change[api.Fencing](ctx, c, call{method: http.MethodPatch, path: "/v1/fencing", body: req, once: true})
}

// DisarmFencing forbids fencing without a person for a while.
func (c *Client) DisarmFencing(ctx context.Context, req api.FencingDisarm) (api.Fencing, error) {
	return post[api.Fencing](ctx, c, "/v1/fencing/disarm", req)
}

// ArmFencing takes that back.
func (c *Client) ArmFencing(ctx context.Context) (api.Fencing, error) {
	return post[api.Fencing](ctx, c, "/v1/fencing/arm", nil)
}

// FenceHistory lists operations, the newest first; of one host, or of all when host is empty. limit 0 takes the server's.
func (c *Client) FenceHistory(ctx context.Context, host string, limit int, r Read) ([]api.FenceOp, Mark, error) {
	q := r.values()
	if host != "" {
		q.Set("host", host)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return get[[]api.FenceOp](ctx, c, "/v1/fencing/history", q)
}

// Powersave shows the policy that switches spare hosts off.
func (c *Client) Powersave(ctx context.Context, r Read) (api.Powersave, Mark, error) {
	return get[api.Powersave](ctx, c, "/v1/powersave", r.values())
}

// SetPowersave changes it.
func (c *Client) SetPowersave(ctx context.Context, req api.PowersaveSet) (api.Powersave, error) {
	return change[api.Powersave](ctx, c, call{method: http.MethodPatch, path: "/v1/powersave", body: req, once: true})
}
