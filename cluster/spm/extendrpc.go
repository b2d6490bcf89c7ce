package spm

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// MethodExtend is the RPC method by which hosts ask for larger volumes.
const MethodExtend = "spm.extend"

// Reasons of an ExtendReply, by which the asking host tells what may work later from what never will. They travel between
// releases: none is ever given another meaning.
const (
	refusedSpace   = "out_of_space"
	refusedNotSPM  = "not_spm"
	refusedUnknown = "not_found"
	refusedInvalid = "invalid"
)

// ExtendReply answers an ExtendRequest between hosts.
type ExtendReply struct {
	Allocated int64  `json:"allocated"` // bytes that the volume has
	Epoch     uint64 `json:"epoch"`
	Refused   string `json:"refused,omitempty"` // why it is not as large as asked; empty: it is
	Queued    bool   `json:"queued,omitempty"`  // it will be when there is space
	Message   string `json:"message,omitempty"`
}

// refusals are the errors that a reply tells apart.
var refusals = []struct {
	reason string
	err    error
}{
	{refusedSpace, domain.ErrNoSpace}, {refusedNotSPM, ErrNotSPM}, {refusedUnknown, domain.ErrNotFound}, {refusedUnknown, ErrNoDomain},
	{refusedInvalid, ErrInvalid}, {refusedInvalid, domain.ErrInvalid}, {refusedInvalid, domain.ErrConflict},
}

// Err is the refusal as an error; nil when the volume is as large as asked. Of those with a meaning of their own errors.Is finds
// the first of its reason: domain.ErrNoSpace, ErrNotSPM, domain.ErrNotFound, ErrInvalid.
func (r ExtendReply) Err() error {
	if r.Refused == "" {
		return nil
	}
	if r.Refused == refusedSpace {
		return &OutOfSpaceError{Queued: r.Queued, Cause: domain.ErrNoSpace, text: r.Message}
	}
	for _, known := range refusals {
		if known.reason == r.Refused {
			return fmt.Errorf("the SPM refused: %s: %w", r.Message, known.err)
		}
	}
	return fmt.Errorf("the SPM refused (%s): %s", r.Refused, r.Message)
}

// answerExtend answers another host. An outcome that is not known stays an error.
func (r *Role) answerExtend(ctx context.Context, req ExtendRequest) (ExtendReply, error) {
	rep, err := r.ExtendVolume(ctx, req)
	if err == nil {
		return ExtendReply{Allocated: rep.Volume.AllocatedBytes, Epoch: rep.Epoch}, nil
	}
	for _, known := range refusals {
		if errors.Is(err, known.err) {
			out := ExtendReply{Refused: known.reason, Message: err.Error()}
			var full *OutOfSpaceError
			out.Queued = errors.As(err, &full) && full.Queued
			return out, nil
		}
	}
	return ExtendReply{}, err
}
