package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/check"
)

// How often the pool is asked for its events, and how long a host has to answer. Another host is asked next when one does not.
const (
	eventPeriod = 250 * time.Millisecond
	eventTime   = 2 * time.Second
	eventsAsked = 1000
)

// follow writes down what the pool says of itself, through whichever host answers, until ctx ends. Events have the same ids everywhere, so
// each host goes on where the last one stopped.
func (r *runner) follow(ctx context.Context) {
	tick := time.NewTicker(eventPeriod)
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.moreEvents(ctx, r.run.Hosts[i%len(r.run.Hosts)], client.Read{}); err != nil {
			i++
		}
	}
}

// moreEvents asks one host for the events after the last one.
func (r *runner) moreEvents(ctx context.Context, host string, read client.Read) error {
	ctx, cancel := context.WithTimeout(ctx, eventTime)
	defer cancel()
	after := cmp.Or(r.lastEvent, "0.0")
	for {
		list, mark, err := r.pool.Client(host).EventList(ctx, client.EventQuery{After: after, Limit: eventsAsked}, read)
		if err != nil {
			return fmt.Errorf("asking %s for events: %w", host, err)
		}
		if mark.Gap != "" && r.lastEvent != "" {
			r.events.Add(check.Seen{At: r.now(), Gap: &api.EventGap{After: after, Oldest: mark.Gap}})
		}
		for _, e := range list {
			r.events.Add(check.Seen{At: r.now(), Event: &e})
			r.lastEvent, after = e.ID, e.ID
		}
		if len(list) < eventsAsked {
			return nil
		}
	}
}

// fences writes down the last events, and what each host says of all operations on the hosts' power.
func (r *runner) fences(ctx context.Context) error {
	if err := r.moreEvents(ctx, r.run.Hosts[0], client.Read{Consistent: true}); err != nil {
		return err
	}
	all := map[string][]api.FenceOp{}
	for i, h := range r.run.Hosts { // the leader's word, and the mirrors'
		ops, _, err := r.pool.Client(h).FenceHistory(ctx, "", 0, client.Read{Consistent: i == 0})
		if err != nil {
			return fmt.Errorf("the history of fencing, of %s: %w", h, err)
		}
		all[h] = ops
	}
	return r.save(check.FencesFile, all)
}
