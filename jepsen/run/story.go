package main

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/check"
)

// follow writes down what the pool says of itself, through whichever host answers, until ctx ends.
func (r *runner) follow(ctx context.Context) {
	cfg := client.FollowerConfig{After: "0.0", Silence: 6 * time.Second, Stale: 4 * time.Second, MaxPause: time.Second}
	for i, h := range r.run.Hosts {
		if i == 0 {
			cfg.Address = r.address(h)
			continue
		}
		cfg.Others = append(cfg.Others, r.address(h))
	}
	f, err := client.NewFollower(cfg)
	if err == nil {
		err = f.Run(ctx, func(got client.Followed) error {
			r.events.Add(check.Seen{At: r.now(), Event: got.Event, Gap: got.Gap})
			return nil
		})
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("the pool's events are not followed any more", "error", err)
	}
}

// fences writes down what each host says of all operations on the hosts' power.
func (r *runner) fences(ctx context.Context) error {
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
