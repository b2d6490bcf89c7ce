package spm

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Names of the RPC methods that a Role answers.
const (
	MethodStart = "spm.start"
	MethodStop  = "spm.stop"
	MethodWatch = "spm.watch"
	// MethodRetire asks for a host's word; see Role.Retire.
	MethodRetire = "spm.retire"
)

// WatchRequest asks to be told when the host does not serve under Epoch any more.
type WatchRequest struct {
	Epoch uint64 `json:"epoch"`
	// Wait bounds the call; it answers with the unchanged status then.
	Wait time.Duration `json:"wait_ns"`
}

// Handler answers one RPC method. from is the calling host.
type Handler func(ctx context.Context, from string, body []byte) (any, error)

// Handlers returns what the agent registers on its cluster port.
func (r *Role) Handlers() map[string]Handler {
	return map[string]Handler{
		MethodStart:  handle(r.Start),
		MethodStop:   handle(r.Stop),
		MethodRetire: handle(r.Retire),
		MethodExtend: handle(r.answerExtend), MethodSnapshot: r.answerSnapshot,
		MethodWatch: handle(func(ctx context.Context, req WatchRequest) (Status, error) {
			ctx, cancel := context.WithTimeout(ctx, req.Wait)
			defer cancel()
			return r.Watch(ctx, req.Epoch), nil
		}),
	}
}

// handle decodes the request of fn.
func handle[In, Out any](fn func(context.Context, In) (Out, error)) Handler {
	return func(ctx context.Context, _ string, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, fmt.Errorf("decoding the request: %w: %w", ErrInvalid, err)
		}
		return fn(ctx, in)
	}
}
