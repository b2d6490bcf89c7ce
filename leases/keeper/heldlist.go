package keeper

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Held is a lease that the keeper holds in a lockspace.
type Held struct {
	Name   string `json:"name"`             // of the resource
	Holder string `json:"holder,omitempty"` // who it is held for; empty: the agent itself
}

// maxHeldListed bounds the list: it is for people, and for telling whether there are any.
const maxHeldListed = 64

// Held lists the leases that the keeper holds in a lockspace, for whomever, and those whose release has not reached the disk. After
// many of them the rest is left out.
func (c *Client) Held(ctx context.Context, lockspace string) ([]Held, error) {
	resp, err := c.call(ctx, &request{Method: methodHeld, Name: lockspace})
	if err != nil {
		return nil, fmt.Errorf("asking what is held in lockspace %s: %w", lockspace, err)
	}
	return resp.Held, nil
}

// listHeld answers methodHeld. A lost lockspace holds nothing that could be used, but what used it may not have ended.
func (s *server) listHeld(name string, resp *response) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.spaces[name]
	if sp == nil {
		return fmt.Errorf("lockspace %q: %w", name, ErrNotJoined)
	}
	list := slices.AppendSeq(slices.Collect(maps.Values(sp.held)), maps.Keys(sp.freeing))
	for _, h := range list {
		one := Held{Name: h.spec.Name}
		if h.spec.Holder != nil {
			one.Holder = h.spec.Holder.Name
		}
		resp.Held = append(resp.Held, one)
	}
	slices.SortFunc(resp.Held, func(a, b Held) int { return strings.Compare(a.Name, b.Name) })
	resp.Held = slices.Compact(resp.Held)
	resp.Held = resp.Held[:min(len(resp.Held), maxHeldListed)]
	return nil
}
