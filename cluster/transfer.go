package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's hand-over has a flaw (hashicorp/raft issue 696, not fixed in 1.7.3): a second one to a host that has not caught up, within the
// same leadership, can wait for a goroutine that ends with the leadership. Raft then says "leadership transfer in progress" for as
// long as the process lives, and when the host leads again nothing is ever committed, while its followers are content. So a host
// that did not take over is not asked again in the same leadership before it has everything in the log: then there is nothing to
// wait for.
type transfers struct {
	mu    sync.Mutex // guards the fields below
	term  uint64
	tried map[string]bool // the hosts that were asked in the term and did not take over
}

// begin says whether a host was asked before in this term, and notes that it is now.
func (t *transfers) begin(term uint64, host string) (again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.term != term {
		t.term, t.tried = term, map[string]bool{}
	}
	again = t.tried[host]
	t.tried[host] = true
	return again
}

// askTime bounds how long a host may take to say how far it is before it is handed the leadership.
const askTime = 500 * time.Millisecond

// handOver makes another voter lead: the named one, or the one that is furthest of those that answer. It returns when that was told to
// start its election.
func (n *Node) handOver(ctx context.Context, to string) error {
	names := []string{to}
	if to == "" {
		var err error
		if names, err = n.heirs(); err != nil {
			return err
		}
	}
	best, err := n.mostReady(ctx, names)
	if err != nil {
		return err
	}
	term := n.raft.CurrentTerm()
	if n.transfers.begin(term, best.Name) && best.Last < n.raft.LastIndex() {
		return fmt.Errorf("%w: host %s has not caught up since it was asked last; ask another one, or try again later", ErrNoHeir, best.Name)
	}
	address, err := n.resolve(best.Name)
	if err != nil {
		return err
	}
	// One that is under way already is nobody's failure, and is over in a moment; another error may come after the word was given.
	return fromRaft(n.await(ctx, n.raft.LeadershipTransferToServer(raft.ServerID(best.Name), raft.ServerAddress(address)).Error))
}

// heirs are the other hosts that vote.
func (n *Node) heirs() ([]string, error) {
	peers, err := n.RaftPeers()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range peers {
		if p.Voter && p.Name != n.cfg.Name {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: no other host has a vote", ErrNoHeir)
	}
	return names, nil
}

// mostReady asks hosts how far they are and returns the furthest. A host that does not answer could not take over either, and raft would
// refuse every change while it waits for it.
func (n *Node) mostReady(ctx context.Context, names []string) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	found := make([]Status, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			errs[i] = n.client.Call(ctx, name, methodStatus, struct{}{}, &found[i])
		})
	}
	wg.Wait()
	var ready []Status
	for i := range names {
		if errs[i] == nil {
			ready = append(ready, found[i])
		}
	}
	if len(ready) == 0 {
		return Status{}, fmt.Errorf("%w: none of those to hand over to answers: %w", ErrNoHeir, errors.Join(errs...))
	}
	return slices.MaxFunc(ready, func(a, b Status) int { return int(int64(a.Last) - int64(b.Last)) }), nil
}
