package qmp

import (
	"context"
	"fmt"
)

// task is something that is to be done over the monitor's connection, which is the only one that QEMU serves.
type task struct {
	ctx  context.Context
	do   func(context.Context, *Conn) error
	done chan error // has room for the answer
}

// Do calls f with the connection to QEMU, waiting for one until ctx ends. Volumes are not looked at meanwhile, so f bounds
// what it does by the context that it is given. An error that wraps ErrNotStarted says that f was not called.
func (m *Monitor) Do(ctx context.Context, f func(context.Context, *Conn) error) error {
	t := task{ctx: ctx, do: f, done: make(chan error, 1)}
	select {
	case m.tasks <- t:
		return <-t.done
	case <-ctx.Done():
		return fmt.Errorf("%w: %s: %w", ErrNotStarted, m.cfg.Socket, context.Cause(ctx))
	}
}
