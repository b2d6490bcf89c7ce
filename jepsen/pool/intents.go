package pool

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// intentTime bounds the question to an agent for the operations on a host's power. Its own mirror answers.
const intentTime = 2 * time.Second

// intents asks all other hosts at once what is committed about a host's power: an order has come, so whoever gave it has the intent of
// it in its mirror by now. A host whose agent ran when it was asked and that does not say is silent.
func (p *Pool) intents(ctx context.Context, about string) (found []history.Intent, silent []string) {
	ctx, cancel := context.WithTimeout(ctx, intentTime)
	defer cancel()
	var mu sync.Mutex // guards both results
	var wg sync.WaitGroup
	for _, h := range p.hosts {
		if h.name == about || h.agentPID() == 0 {
			continue
		}
		wg.Go(func() {
			got, err := h.intentsOn(ctx, about)
			mu.Lock()
			defer mu.Unlock()
			if found = append(found, got...); err != nil {
				silent = append(silent, h.name)
			}
		})
	}
	wg.Wait()
	return found, silent
}

// intentsOn asks one host.
func (h *host) intentsOn(ctx context.Context, about string) (found []history.Intent, err error) {
	ops, _, err := h.client.FenceHistory(ctx, about, 0, client.Read{})
	if err != nil {
		return nil, err
	}
	for _, op := range ops {
		if op.Outcome != "" || len(op.Steps) == 0 {
			continue
		}
		s := op.Steps[len(op.Steps)-1]
		found = append(found, history.Intent{By: h.name, Op: op.ID, Action: op.Action, Steps: len(op.Steps), Term: s.Term, Owner: op.Term, Leader: s.Leader,
			Through: s.Through, Rung: s.Rung, Result: s.Result})
	}
	return found, nil
}

// now is the time on the clock of the run.
func (p *Pool) now() time.Duration {
	if p.cfg.Now == nil {
		return 0
	}
	return p.cfg.Now()
}

// notePower hands a note of a host's power on.
func (p *Pool) notePower(n history.Power) {
	if p.cfg.Power != nil {
		p.cfg.Power(n)
	}
}

// isOff reports whether a host has no power.
func (h *host) isOff() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.off
}
