package main

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// How often each agent is asked how the pool is, and how long it has to answer. Reads are answered from its mirror.
const (
	samplePeriod = 250 * time.Millisecond
	sampleTime   = 2 * time.Second
)

// sample asks all agents until ctx ends.
func (r *runner) sample(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, h := range r.run.Hosts {
		wg.Go(func() {
			tick := time.NewTicker(samplePeriod)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					r.samples.Add(r.ask(ctx, h))
				}
			}
		})
	}
}

// ask asks one agent.
func (r *runner) ask(ctx context.Context, host string) history.Sample {
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	s := history.Sample{At: r.now(), Host: host}
	st, _, err := r.pool.Client(host).Status(ctx, client.Read{})
	if err != nil {
		return s
	}
	s.Answered = true
	s.SPM, s.Epoch, s.SPMState = st.SPM.Host, st.SPM.Epoch, string(st.SPM.State)
	s.Leader, s.Term = st.Raft.Leader, st.Raft.Term
	if g, err := r.pool.Growth(ctx, host); err == nil {
		s.Growth = &g
	}
	return s
}

// warm lets clients work for a while and gives the highest number of goroutines that each agent had meanwhile. That ctx has ended is
// seen by whoever comes next.
func (r *runner) warm(ctx, asking context.Context) map[string]int {
	most := map[string]int{}
	for range warmCounts {
		_ = pause(ctx, warmTime/warmCounts)
		for h, n := range r.goroutines(asking) {
			most[h] = max(most[h], n)
		}
	}
	return most
}

// settled counts goroutines until there are no more than there were, within margin, or a while has passed: connections that clients have
// left are closed one after the other.
func (r *runner) settled(ctx context.Context, margin int) map[string]int {
	counts := r.goroutines(ctx)
	for range 20 {
		grown := false
		for h, n := range counts {
			grown = grown || n > r.before[h]+margin
		}
		if !grown || pause(ctx, time.Second) != nil {
			break
		}
		counts = r.goroutines(ctx)
	}
	return counts
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// goroutines counts them in all agents.
func (r *runner) goroutines(ctx context.Context) map[string]int {
	counts := map[string]int{}
	for _, h := range r.run.Hosts {
		n, err := r.pool.Goroutines(ctx, h)
		if err != nil {
			r.log.Warn("counting goroutines", "host", h, "error", err)
			continue
		}
		counts[h] = n
	}
	return counts
}
