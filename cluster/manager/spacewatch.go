package manager

import (
	"context"

	"github.com/holdfast-io/holdfast/fsm"
)

// watchSpaces asks keepers now and then what they remember of all hosts in all lockspaces. It reads no disk.
func (t *term) watchSpaces(view *fsm.State) {
	now := t.m.cfg.Now()
	if now.Sub(t.spacesAt) < t.m.cfg.InspectEvery {
		return
	}
	t.mu.Lock()
	names := t.witnesses()
	t.mu.Unlock()
	if len(names) == 0 {
		return
	}
	t.spacesAt = now
	var req SightRequest
	for _, h := range view.Hosts.All() {
		req.HostIDs = append(req.HostIDs, h.HostID)
	}
	t.once("spaces", func(ctx context.Context) { t.lookAtSpaces(ctx, names, req) })
}

// lookAtSpaces is one look of watchSpaces. What no keeper knows any more is not known.
func (t *term) lookAtSpaces(ctx context.Context, names []string, req SightRequest) {
	found := make(chan spaceFacts, len(names))
	for _, name := range names {
		t.wg.Go(func() {
			f := spaceFacts{}
			var rep SightReply
			begun := t.m.cfg.Now()
			err := t.call(ctx, t.m.cfg.InspectTimeout, name, MethodSight, req, &rep)
			if err == nil {
				f.take(rep.Seen, begun)
			}
			t.report(err, "asking "+name+" about the hosts in all lockspaces")
			found <- f
		})
	}
	all := spaceFacts{}
	for range names {
		all.merge(<-found)
	}
	t.mu.Lock()
	t.spaces = all
	t.mu.Unlock()
}
