package keeper

// orphan is an acquire that nobody waits for any more: its caller was told that the outcome is unknown. A lease that nobody
// knows of must not stay, so it is given back when the answer comes. Until that is over the resource is not asked for again:
// the keeper would answer with the very lease that is about to be freed, and what is written under it might land after that.
type orphan struct {
	spec  ResourceSpec
	freed bool // asked to be
}

// hasOrphan says whether an acquire of the resource, or the release that follows it, is not over.
func (c *Client) hasOrphan(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.orphans {
		if o.spec.key() == key {
			return true
		}
	}
	return false
}

// adopt takes in the answer to an orphan and returns what has to be released: nothing when there is no lease, or when it is
// one that was held before, asked for once more. The caller holds mu.
func (c *Client) adopt(resp *response) *ResourceSpec {
	o := c.orphans[resp.ID]
	if o == nil {
		return nil
	}
	g := c.grants[o.spec.key()]
	known := g != nil && g.version == resp.Version && !g.revoked.Load()
	if o.freed || resp.Error != nil || known {
		delete(c.orphans, resp.ID)
		return nil
	}
	o.freed = true
	return &o.spec
}

// forgetOrphans is for a connection that is broken: nothing is answered any more.
func (c *Client) forgetOrphans() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.orphans)
}
