package host

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// Snapshot asks the SPM for a new leaf on one that this host holds, and returns its id. The same key again gives the same volume.
// An error that wraps attach.ErrRefused says that there is none.
func (a Attached) Snapshot(ctx context.Context, key, domainID, leaf, name string) (string, error) {
	node := a.host.Node()
	if node == nil {
		return "", fmt.Errorf("snapshot of volume %s: %w", leaf, cluster.ErrNotMember)
	}
	role := node.SPM()
	if role.State != fsm.SPMServing {
		// No refusal: an earlier try, before a restart of this agent, may have been carried out.
		return "", fmt.Errorf("snapshot of volume %s: no SPM is known now", leaf)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	var rep spm.LiveSnapshotReply
	err := node.Call(ctx, role.Host, spm.MethodSnapshot, spm.LiveSnapshotRequest{Key: key, Domain: domainID, Leaf: leaf, Name: name}, &rep)
	if err != nil {
		return "", fmt.Errorf("snapshot of volume %s by the SPM on %s: %w", leaf, role.Host, err)
	}
	if rep.Refused != "" {
		return "", fmt.Errorf("snapshot of volume %s: %w: %s", leaf, attach.ErrRefused, rep.Refused)
	}
	return rep.Volume, nil
}

// Share turns a lease that a process has into one for reading. Its guard fails from then on.
func (a Attached) Share(ctx context.Context, at attach.Place, p attach.Process) error {
	rt, _, err := a.opened(at.Lockspace)
	if err != nil {
		return err
	}
	spec := resourceAt(at)
	spec.Holder = exportHolder(at.Name, p)
	ctx, cancel := context.WithTimeout(ctx, rt.leaseTimeout())
	defer cancel()
	_, err = rt.keeper.Convert(ctx, spec, true)
	return err
}
