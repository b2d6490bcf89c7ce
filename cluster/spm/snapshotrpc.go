package spm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// MethodSnapshot is the RPC method by which a host asks for a new leaf on one that it holds, under a guest that runs.
const MethodSnapshot = "spm.snapshot"

// LiveSnapshotRequest names the leaf. The same key again gives the same volume.
type LiveSnapshotRequest struct {
	Key    string `json:"key"`
	Domain string `json:"domain"`
	Leaf   string `json:"leaf"`
	Name   string `json:"name,omitempty"`
}

// LiveSnapshotReply answers it.
type LiveSnapshotReply struct {
	Volume  string `json:"volume"`
	Refused string `json:"refused,omitempty"` // there is no new volume by this request; why
}

// thisHost is what the keeper calls a holder on its own host.
const thisHost = "this host"

// liveHolder is how the domain's lease names a host of the cluster.
func (r *Role) liveHolder(host string) string {
	if host == r.cfg.Host {
		return thisHost
	}
	return host
}

// answerSnapshot answers another host, or this one. An outcome that is not known stays an error.
func (r *Role) answerSnapshot(ctx context.Context, from string, body []byte) (any, error) {
	var req LiveSnapshotRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decoding the request: %w: %w", ErrInvalid, err)
	}
	rep, err := r.snapshotLive(ctx, from, req)
	switch {
	case err == nil:
		return LiveSnapshotReply{Volume: rep.Volume.ID}, nil
	case errors.Is(err, blockdev.ErrOutcomeUnknown), errors.Is(err, ErrNotSPM), ctx.Err() != nil:
		return nil, err
	}
	return LiveSnapshotReply{Refused: err.Error()}, nil
}

func (r *Role) snapshotLive(ctx context.Context, from string, req LiveSnapshotRequest) (VolumeReply, error) {
	if req.Key == "" || from == "" {
		return VolumeReply{}, invalidf("a snapshot under a guest needs a key, and a host that asks for it")
	}
	s, err := r.serving()
	if err != nil {
		return VolumeReply{}, err
	}
	d, err := s.domain(ctx, req.Domain)
	if err != nil {
		return VolumeReply{}, err
	}
	leaf, ok := d.dom.Volume(req.Leaf)
	if !ok || leaf.State != domain.StateOK {
		return VolumeReply{}, fmt.Errorf("volume %s: %w", req.Leaf, domain.ErrNotFound)
	}
	id := deriveID(r.cfg.Pool, "snapshot", req.Key)
	if there, ok := d.dom.Volume(id); leaf.VolType != domain.Leaf && !(ok && there.Parent == leaf.ID) {
		return VolumeReply{}, fmt.Errorf("volume %s is not the leaf of its image: %w", leaf.ID, domain.ErrConflict)
	}
	return r.Snapshot(ctx, SnapshotRequest{Key: req.Key, Domain: req.Domain, Image: leaf.Image, Name: req.Name, LiveOn: from})
}
