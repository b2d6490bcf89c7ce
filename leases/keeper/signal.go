package keeper

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/leases"
)

const (
	// watchPeriod is how often the request record of a watched resource is read.
	watchPeriod = 500 * time.Millisecond
	// maxAlerts bounds what the renewal loop has found and nobody has looked at yet; more is dropped, for it comes again
	// or is only a hint.
	maxAlerts = 64
	// maxNotices bounds what the agent has not looked at yet.
	maxNotices = 256
)

// RequestSeen is another host's wish to have a resource that is held here.
type RequestSeen struct {
	Lockspace string `json:"lockspace"`
	Resource  string `json:"resource"`
	// Lver is the version asked for: the one after ours.
	Lver uint64           `json:"lver"`
	Mode leases.ForceMode `json:"mode"`
	// From is the host that told us to look; 0 when we found the request by ourselves. The request itself does not say
	// who made it.
	From int `json:"from,omitempty"`
}

// eventSeen is a host event on its way to the agent.
type eventSeen struct {
	Lockspace string           `json:"lockspace"`
	Event     leases.HostEvent `json:"event"`
}

// alert is called from the renewal loop.
func (sp *space) alert(from int) {
	select {
	case sp.alerts <- from:
	default:
	}
}

// event is called from the renewal loop.
func (sp *space) event(e leases.HostEvent) {
	select {
	case sp.events <- e:
	default:
	}
}

// alertLoop looks at the requests for all that is held when another host wants that.
func (s *server) alertLoop(ctx context.Context, sp *space) {
	for {
		select {
		case <-ctx.Done():
			return
		case from := <-sp.alerts:
			all := s.heldIn(sp)
			slices.SortFunc(all, func(a, b *holding) int { return cmp.Compare(a.slot, b.slot) })
			for _, h := range all {
				s.examine(ctx, sp, h, from)
			}
		}
	}
}

// eventLoop hands host events to the agent.
func (s *server) eventLoop(ctx context.Context, sp *space) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-sp.events:
			s.reply(&response{Event: &eventSeen{Lockspace: sp.spec.Name, Event: e}})
		}
	}
}

// watchLocked starts to watch the requests for a lease, if that is wanted and not done yet; the caller holds mu.
func (s *server) watchLocked(sp *space, h *holding, want bool) {
	if want && !h.watched {
		h.watched = true
		s.watches.Go(func() { s.watch(sp, h) })
	}
}

// watch looks at the requests for a lease until it is withdrawn. Watchers do not all look at the same moment.
func (s *server) watch(sp *space, h *holding) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t := time.NewTimer(firstWatch(sp, h))
	defer t.Stop()
	for {
		select {
		case <-h.withdrawn:
			return
		case <-t.C:
		}
		s.examine(ctx, sp, h, 0)
		t.Reset(watchPeriod)
	}
}

// firstWatch is the time until a watcher first looks, another one for each host and resource.
func firstWatch(sp *space, h *holding) time.Duration {
	sum := fnv.New32a()
	fmt.Fprint(sum, sp.spec.HostID, h.spec.key())
	return time.Duration(sum.Sum32()) % watchPeriod
}

// examine reads the request for one lease and tells the agent if it is new.
func (s *server) examine(ctx context.Context, sp *space, h *holding, from int) {
	ctx, cancel := context.WithTimeout(ctx, sp.spec.Profile.IOTimeout)
	defer cancel()
	req, pending, err := s.pending(ctx, sp, h)
	if err != nil {
		s.log.Debug("could not look for requests", "resource", h.spec.key(), "error", err)
		return
	}
	s.mu.Lock()
	news := pending && sp.held[h.spec.key()] == h && req != h.told
	h.told = leases.Request{}
	if pending {
		h.told = req
	}
	s.mu.Unlock()
	if news {
		s.log.Info("another host asks for a resource", "resource", h.spec.key(), "version", req.Lver, "mode", req.ForceMode, "from", from)
		s.reply(&response{Request: &RequestSeen{Lockspace: sp.spec.Name, Resource: h.spec.Name, Lver: req.Lver, Mode: req.ForceMode, From: from}})
	}
}

// pending reads the request and says whether it is for the version that is held. Sharers do not know the newest version,
// so they look.
func (s *server) pending(ctx context.Context, sp *space, h *holding) (leases.Request, bool, error) {
	_, spec, err := s.resource(ctx, &h.spec)
	if err != nil {
		return leases.Request{}, false, err
	}
	s.mu.Lock()
	version, shared := h.lease.Epoch(), h.isShared()
	s.mu.Unlock()
	req, err := sp.ls.ReadRequest(ctx, spec)
	if err != nil {
		s.dropIfGone(h.spec.Device, spec.Device, err)
		return req, false, err
	}
	if !req.Pending(version) || !shared {
		return req, req.Pending(version), nil
	}
	info, err := sp.ls.ReadResource(ctx, spec)
	return req, req.Pending(info.Version), err
}

// request asks another host for a resource, or takes that back.
func (s *server) request(ctx context.Context, req *request, resp *response) error {
	sp, spec, err := s.resource(ctx, req.Resource)
	if err != nil {
		return err
	}
	if req.Method == methodClearRequest {
		return sp.ls.ClearRequest(ctx, spec)
	}
	info, err := sp.ls.Request(ctx, spec, req.Lver, req.Mode)
	if err != nil {
		s.dropIfGone(req.Resource.Device, spec.Device, err)
		return err
	}
	resp.Info = &info
	return nil
}

// sendEvent puts an event into our record.
func (s *server) sendEvent(ctx context.Context, req *request) error {
	sp, err := s.joined(req.Name)
	if err != nil {
		return err
	}
	return sp.ls.SendEvent(ctx, req.HostID, req.Generation, req.Event, req.Data)
}

// Request asks the exclusive owner of a resource to give it up, through the storage alone; see leases.Lockspace.Request.
// The answer is the state of the resource: one that is Takeable was not asked for.
func (c *Client) Request(ctx context.Context, spec ResourceSpec, lver uint64, mode leases.ForceMode) (ResourceInfo, error) {
	resp, err := c.call(ctx, &request{Method: methodRequest, Resource: &spec, Lver: lver, Mode: mode})
	if err != nil {
		return ResourceInfo{}, fmt.Errorf("asking for %s: %w", spec.Name, err)
	}
	if resp.Info == nil {
		return ResourceInfo{}, fmt.Errorf("asking for %s: %w: no answer in the answer", spec.Name, errFrame)
	}
	return *resp.Info, nil
}

// ClearRequest takes a request back.
func (c *Client) ClearRequest(ctx context.Context, spec ResourceSpec) error {
	if _, err := c.call(ctx, &request{Method: methodClearRequest, Resource: &spec}); err != nil {
		return fmt.Errorf("taking back the request for %s: %w", spec.Name, err)
	}
	return nil
}

// SendEvent sends an event to a host of a lockspace through the storage; see leases.Lockspace.SendEvent.
func (c *Client) SendEvent(ctx context.Context, lockspace string, hostID int, generation, event, data uint64) error {
	_, err := c.call(ctx, &request{Method: methodSendEvent, Name: lockspace, HostID: hostID, Generation: generation, Event: event, Data: data})
	if err != nil {
		return fmt.Errorf("event for host %d: %w", hostID, err)
	}
	return nil
}

// queue puts a notice in line. The keeper sends each one once, so what does not fit is lost and said to be.
func (c *Client) queue(resp *response) {
	select {
	case c.notices <- resp:
	default:
		c.log.Error("a notice of the keeper is lost: the agent does not listen")
	}
}

// tell hands notices to the agent, one after the other, until the connection ends.
func (c *Client) tell() {
	for resp := range c.notices {
		switch {
		case resp.Request != nil && c.onRequest != nil:
			c.onRequest(*resp.Request)
		case resp.Event != nil && c.onEvent != nil:
			c.onEvent(resp.Event.Lockspace, resp.Event.Event)
		}
	}
}
