package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// leaderPatience is how long a retry waits for another leader than the one that failed.
	leaderPatience = time.Second
	// askPatience is how long a host waits to hear from a leader before it asks the others who that is. A host whose
	// address is new hears from nobody.
	askPatience = 500 * time.Millisecond
	askTimeout  = 500 * time.Millisecond
)

// waitLeader waits for a leader. After a failure it gives the cluster a moment to find another one than the failed.
func (n *Node) waitLeader(ctx context.Context, failed string) (string, error) {
	patience := time.NewTimer(leaderPatience)
	defer patience.Stop()
	ask := time.NewTicker(askPatience)
	defer ask.Stop()
	for {
		changed := n.leader.changes()
		if name, ok := n.Leader(); ok && name != failed {
			return name, nil
		}
		select {
		case <-changed:
		case <-patience.C:
			failed = ""
		case <-ask.C:
			if name := n.askForLeader(ctx); name != "" && name != failed {
				return name, nil
			}
		case <-ctx.Done():
			return "", fmt.Errorf("%w (%w)", ErrNoLeader, ctx.Err())
		case <-n.stopped:
			return "", ErrClosed
		}
	}
}

// askForLeader asks the other members who leads.
func (n *Node) askForLeader(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	peers := n.peers.all()
	answers := make(chan string, len(peers))
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() {
			var st Status
			if p.Name != n.cfg.Name && n.client.Call(ctx, p.Name, methodStatus, struct{}{}, &st) == nil && st.Leader != n.cfg.Name {
				answers <- st.Leader
				if st.Leader != "" {
					cancel() // one answer is enough
				}
			}
		})
	}
	wg.Wait()
	close(answers)
	for name := range answers {
		if name != "" {
			return name
		}
	}
	return ""
}
