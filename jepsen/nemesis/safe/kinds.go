package safe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// Agent is the agent of the machine that this runs on. It must be one that something starts again when it has ended.
type Agent interface {
	// Kill ends the process at once, and returns when another one answers in its place.
	Kill(ctx context.Context) error
	// Stop lets it stand still, and Continue go on; for a process that has ended they do nothing.
	Stop() error
	Continue() error
}

// Kind is a kind of fault.
type Kind struct {
	Name  string
	Does  string
	Local bool // it needs an Agent
	// inject does it and returns when it is over; the pool may still need time.
	inject func(ctx context.Context, r *Run, s api.Status) error
}

// Kinds lists what can be injected; without an agent of this machine, less.
func Kinds(local bool) []Kind {
	all := []Kind{
		{Name: "spm.move", Does: "moves the SPM role to another host", inject: moveSPM},
		{Name: "raft.transfer", Does: "makes another host the leader", inject: transfer},
		{Name: "agent.kill", Does: "kills the agent of this machine; whatever keeps it running must start it again", Local: true, inject: killAgent},
		{Name: "agent.stop", Does: "stops the agent of this machine with SIGSTOP, for less than half of its lease's life", Local: true, inject: stopAgent},
	}
	return slices.DeleteFunc(all, func(k Kind) bool { return k.Local && !local })
}

// Choose picks kinds by name; no names are all.
func Choose(names []string, local bool) ([]Kind, error) {
	all := Kinds(local)
	if len(names) == 0 {
		return all, nil
	}
	var out []Kind
	for _, name := range names {
		i := slices.IndexFunc(all, func(k Kind) bool { return k.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no fault %q here: there are %s; those of the agent need its unix socket as --address", name, strings.Join(namesOf(all), ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

func namesOf(kinds []Kind) (l []string) {
	for _, k := range kinds {
		l = append(l, k.Name)
	}
	return l
}

// another host that is not the one named. It must be there: well has looked.
func (r *Run) another(s api.Status, than string) string {
	others := slices.DeleteFunc(slices.Clone(s.Hosts), func(h api.Host) bool { return h.Name == than })
	return others[r.rng.IntN(len(others))].Name
}

func moveSPM(ctx context.Context, r *Run, s api.Status) error {
	return r.pool.move(ctx, r.another(s, s.SPM.Host))
}

func transfer(ctx context.Context, r *Run, s api.Status) error {
	return r.pool.transfer(ctx, r.another(s, s.Raft.Leader))
}

// killAgent waits for the agent's return even when the run is broken off.
func killAgent(ctx context.Context, r *Run, _ api.Status) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wellTime)
	defer cancel()
	return r.Agent.Kill(ctx)
}

// stopAgent always lets the agent go on, also when the run is broken off.
func stopAgent(ctx context.Context, r *Run, s api.Status) error {
	d := time.Duration(1+r.rng.IntN(39)) * ioTimeout(s.Pool.Profile) / 10
	if err := r.Agent.Stop(); err != nil {
		return fmt.Errorf("%w; it goes on: %w", err, r.Agent.Continue())
	}
	pause(ctx, d)
	return r.Agent.Continue()
}

// ioTimeout is the N of a profile. One that is not known counts as the shortest.
func ioTimeout(profile string) time.Duration {
	switch profile {
	case "compatible":
		return 10 * time.Second
	case "fast":
		return 2 * time.Second
	default:
		return time.Second
	}
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
