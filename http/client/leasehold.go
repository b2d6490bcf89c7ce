package client

import (
	"context"

	"github.com/holdfast-io/holdfast/http/api"
)

// AcquireLease takes a lease on the host that is asked. Whoever asks again for the same holder gets the same lease, and may
// name further processes.
func (c *Client) AcquireLease(ctx context.Context, domain, id string, who api.LeaseFor) (api.LeaseHeld, error) {
	return post[api.LeaseHeld](ctx, c, leasesPath(domain, id, "acquire"), who)
}

// ReleaseLease gives a lease of the host that is asked back. With a holder it refuses what is held for another one.
func (c *Client) ReleaseLease(ctx context.Context, domain, id string, who api.LeaseFor) (api.LeaseReleased, error) {
	return post[api.LeaseReleased](ctx, c, leasesPath(domain, id, "release"), who)
}
