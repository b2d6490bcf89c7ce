package main

import (
	"context"

	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/http/api"
)

// SetMaster makes a domain the pool's master; it runs on the SPM.
func (b *backend) SetMaster(ctx context.Context, id string, req api.MasterSet, by string) (api.MasterChanged, error) {
	st, err := b.state()
	if err != nil {
		return api.MasterChanged{}, err
	}
	d, err := findDomain(st, id)
	if err != nil {
		return api.MasterChanged{}, err
	}
	rep, err := b.host.SetMaster(ctx, d, by, req.Reason)
	if err != nil {
		return api.MasterChanged{}, apiError(err)
	}
	return api.MasterChanged{Master: rep.Master, Former: rep.Former, Version: rep.Version, Epoch: rep.Epoch, Mirrored: rep.Mirrored, Index: rep.Index,
		TookMS: rep.Took.Milliseconds()}, nil
}

// ReconstructMaster makes a domain the master in the place of one that is lost; it runs on the leader.
func (b *backend) ReconstructMaster(ctx context.Context, id string, req api.MasterReconstruct, by string) (api.MasterReconstructed, error) {
	if _, _, err := b.pool(); err != nil {
		return api.MasterReconstructed{}, err
	}
	mgr := b.host.Manager()
	if mgr == nil {
		return api.MasterReconstructed{}, apiError(manager.ErrNotLeading)
	}
	done, err := mgr.ReconstructMaster(ctx, manager.Reconstruction{Domain: id, By: by, Reason: req.Reason, Dead: req.Dead, Force: req.Force})
	if err != nil {
		return api.MasterReconstructed{}, apiError(err)
	}
	out := api.MasterReconstructed{Master: done.Master, Former: done.Former, Version: done.Version, Promised: done.Promised}
	for _, p := range done.Proofs {
		out.Proofs = append(out.Proofs, api.MasterProof{Host: p.Host, Kind: p.Kind, Evidence: p.Evidence})
	}
	return out, nil
}
