package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// acquireOptions are the flags of lease acquire.
type acquireOptions struct {
	domain, vm string
	pid        int
	exec       bool
	wait       time.Duration
}

func newLeaseAcquireCommand(g *global) *cobra.Command {
	var o acquireOptions
	cmd := &cobra.Command{
		Use:   "acquire ID {--vm NAME | --pid PID | --exec CMD [ARG...]}",
		Short: "Take a lease on this host, for a VM, for a process, or for a command that runs under it",
		Long: fmt.Sprintf(`Take a lease on the host that is asked, which is this one unless --address names another.

With --vm the agent holds it, until it is released or the agent ends. With --pid it is tied to a process: the end of the
process frees it at once, and the process is killed (SIGTERM, later SIGKILL) when the lease is lost. With --exec, which
comes last, CMD runs under the lease; it is told SIGTERM and later SIGKILL when the lease is lost, and killed when this
program is. The exit status is that of CMD, 128 and the signal's number if a signal ended it, or

  %d  the lease was lost, or nobody can tell, while CMD ran
  %d  the lease could not be had, or something else failed before CMD ran
  126, 127  CMD cannot be executed, or was not found`, exitLeaseLost, exitNotRun),
		Example: "  holdfast lease acquire 6d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02 --wait 1m --exec backup.sh /srv",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !o.exec {
				return g.acquireLease(cmd, args, o)
			}
			return notRun(g.execUnderLease(cmd, args, o))
		},
	}
	leaseDomainFlag(cmd, &o.domain)
	f := cmd.Flags()
	f.StringVar(&o.vm, "vm", "", "whom it is for; the agent holds it")
	f.IntVar(&o.pid, "pid", 0, "a process on this machine to tie it to")
	f.BoolVar(&o.exec, "exec", false, "run the command that follows under the lease")
	f.DurationVar(&o.wait, "wait", 0, "how long to wait for a lease that somebody has")
	return cmd
}

// acquireLease takes a lease and leaves it to the agent or a process.
func (g *global) acquireLease(cmd *cobra.Command, args []string, o acquireOptions) error {
	id, err := checkLeaseID(args[0])
	if err != nil {
		return err
	}
	if len(args) > 1 || o.vm == "" && o.pid == 0 {
		return usagef("say for whom: --vm NAME, --pid PID, or --exec CMD [ARG...] at the end")
	}
	who := api.LeaseFor{VM: o.vm}
	if o.pid != 0 {
		p, err := processOf(o.pid)
		if err != nil {
			return err
		}
		who.Processes = []api.LeaseProcess{p}
	}
	return g.withLeases(cmd, o.domain, func(c *client.Client, dom string) error {
		l, err := waitForLease(cmd.Context(), c, dom, id, who, o.wait)
		if err != nil {
			return err
		}
		return g.show(cmd, l, func() *table {
			return fields("ID", l.ID, "DOMAIN", l.Domain, "HOST", l.Host, "VERSION", fmt.Sprint(l.Version), "FOR", forWhom(l.LeaseFor))
		})
	})
}

// processOf names a process so that no later one of the same number can be meant.
func processOf(pid int) (api.LeaseProcess, error) {
	at, err := keeper.StartTime(pid)
	if err != nil {
		return api.LeaseProcess{}, fmt.Errorf("--pid: %w", err)
	}
	return api.LeaseProcess{PID: pid, StartTime: at}, nil
}

// forWhom is a holder for people.
func forWhom(who api.LeaseFor) string {
	if len(who.Processes) == 0 {
		return who.VM
	}
	return fmt.Sprintf("%s process %d", who.VM, who.Processes[0].PID)
}

// leasePoll is the pause between two attempts to get a lease that somebody has. An attempt reads some sectors.
const leasePoll = 500 * time.Millisecond

// waitForLease acquires, and goes on trying for as long as somebody else has the lease and wait lasts.
func waitForLease(ctx context.Context, c *client.Client, dom, id string, who api.LeaseFor, wait time.Duration) (api.LeaseHeld, error) {
	for end := time.Now().Add(wait); ; {
		l, err := c.AcquireLease(ctx, dom, id, who)
		var e *api.Error
		if err == nil || !errors.As(err, &e) || e.Code != api.CodeBusy || time.Now().Add(leasePoll).After(end) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return l, err
		case <-time.After(leasePoll):
		}
	}
}

func newLeaseReleaseCommand(g *global) *cobra.Command {
	var o acquireOptions
	cmd := &cobra.Command{
		Use:   "release ID",
		Short: "Give a lease of this host back",
		Long: `Give a lease back that the host that is asked has, which is this one unless --address names another. What runs under it goes
on unprotected: stop it before. --vm and --pid refuse when the lease is held for somebody else.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := checkLeaseID(args[0])
			if err != nil {
				return err
			}
			who := api.LeaseFor{VM: o.vm}
			if o.pid != 0 {
				who.Processes = []api.LeaseProcess{{PID: o.pid}}
			}
			return g.withLeases(cmd, o.domain, func(c *client.Client, dom string) error {
				l, err := c.ReleaseLease(cmd.Context(), dom, id, who)
				if err != nil {
					return err
				}
				return g.show(cmd, l, func() *table { return fields("ID", l.ID, "DOMAIN", l.Domain, "RELEASED BY", l.Host) })
			})
		},
	}
	leaseDomainFlag(cmd, &o.domain)
	cmd.Flags().StringVar(&o.vm, "vm", "", "only if it is held for this VM")
	cmd.Flags().IntVar(&o.pid, "pid", 0, "only if it is tied to this process")
	return cmd
}

// protectExec puts "--" behind --exec of lease acquire, so that the flags of the command that follows stay its own.
func protectExec(args []string) []string {
	verb := false
	for i, a := range args {
		switch {
		case a == "--":
			return args
		case a == "acquire" && i > 0:
			verb = true
		case a == "--exec" && verb && i+1 < len(args) && args[i+1] != "--":
			out := append([]string(nil), args[:i+1]...)
			return append(append(out, "--"), args[i+1:]...)
		}
	}
	return args
}

// self is this program, for starting it again.
func self() string {
	if p, err := os.Executable(); err == nil {
		return p
	}
	return "/proc/self/exe"
}
