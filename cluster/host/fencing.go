package host

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fencing/kdump"
	"github.com/holdfast-io/holdfast/fencing/soft"
	"github.com/holdfast-io/holdfast/fsm"
)

// softRestart runs the configured command for a host.
func softRestart(cmd soft.Command) manager.SoftRestart {
	return func(ctx context.Context, h fsm.Host) (string, error) {
		out, err := cmd.Run(ctx, soft.Target{Host: h.Name, Address: h.Address, ID: h.HostID})
		return out.Output, err
	}
}

// crashes hears crash kernels, by the address at which a host is known.
type crashes struct{ l *kdump.Listener }

// kdumpQuiet is the silence after which a dump is over: senders repeat themselves each 10 s.
const kdumpQuiet = 30 * time.Second

// Await waits for a first message.
func (c crashes) Await(ctx context.Context, h fsm.Host, start time.Duration) (bool, string, error) {
	addr, err := addressOf(h)
	if err != nil {
		return false, "", err
	}
	if err := c.l.Watch(addr); err != nil {
		return false, "", err
	}
	seen, heard, err := c.l.Await(ctx, start, addr)
	if !heard || err != nil {
		c.l.Forget(addr)
		return false, "", err
	}
	return true, fmt.Sprintf("a message of a crash kernel came from %s at %s", addr, seen.First.UTC().Format(time.RFC3339)), nil
}

// Finished waits until the messages end.
func (c crashes) Finished(ctx context.Context, h fsm.Host, limit time.Duration) (string, error) {
	addr, err := addressOf(h)
	if err != nil {
		return "", err
	}
	defer c.l.Forget(addr)
	seen, over, err := c.l.Finished(ctx, kdumpQuiet, limit, addr)
	switch {
	case err != nil:
		return "", err
	case !over:
		return fmt.Sprintf("it still sends after %s and %d messages; nothing waits for it any longer", limit, seen.Count), nil
	}
	return fmt.Sprintf("the last of %d messages came at %s", seen.Count, seen.Last.UTC().Format(time.RFC3339)), nil
}

func addressOf(h fsm.Host) (netip.Addr, error) {
	ap, err := netip.ParseAddrPort(h.Address)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("host %s is known as %s, not by an IP address: %w", h.Name, h.Address, err)
	}
	return ap.Addr(), nil
}
