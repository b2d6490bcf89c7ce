package pool

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// intentTime bounds the question to an agent for the operations on a host's power. Its own mirror answers.
const intentTime = 2 * time.Second

// intents asks all other hosts at once which intents about a host's power are committed: an order has come, so whoever gave it has the intent of
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
		if !op.Ended.IsZero() && time.Since(op.Ended) > lately {
			continue
		}
		for _, st := range slices.Backward(op.Steps) {
			if order := orders[st.Rung]; order != "" && st.Result == stepIntent {
				found = append(found, history.Intent{By: h.name, Op: op.ID, Order: order, Term: st.Term, Leader: st.Leader, Through: st.Through})
				break
			}
		}
	}
	return found, nil
}

// stepIntent is what the API says of a step that is an intent, and orders are the rungs of orders to switches.
const stepIntent = "intent"

var orders = map[string]string{"power_off": history.PowerOrderOff, "power_on": history.PowerOrderOn}

// lately is how long ago an operation may have ended of which an order is still on its way.
const lately = 5 * time.Second

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
