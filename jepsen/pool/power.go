package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/procs"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// startPoll is the time between two questions to an agent that is starting.
const startPoll = 50 * time.Millisecond

// Kill sends SIGKILL to a part of a host and returns when it is gone. A host whose agent was killed stays down until Start. One
// that loses its keeper alone goes on as it can.
func (p *Pool) Kill(name string, part Part) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	h.power.Lock()
	defer h.power.Unlock()
	if part != Keeper {
		h.setWant(false)
	}
	if err := h.killPart(part); err != nil {
		return fmt.Errorf("killing the %s of %s: %w", part, name, err)
	}
	return nil
}

// killPart kills agent, keeper or both. An agent may start a keeper between the look and the kill, so where both are to go it is
// looked again.
func (h *host) killPart(part Part) error {
	if part == Machine {
		return h.killAll(nil)
	}
	for {
		pids, err := h.pids(part)
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := h.kill(pids, nil); err != nil || part != Both {
			return err
		}
	}
}

// killAll kills all processes of the host. It looks again until none is left, because one may have forked between the look and the
// kill.
func (h *host) killAll(then func() error) error {
	for {
		pids, err := h.pids(Machine)
		if err != nil {
			return err
		}
		if len(pids) > 0 {
			err = h.kill(pids, then)
		} else if then != nil {
			err = then()
		}
		if err != nil || len(pids) == 0 {
			return err
		}
		then = nil
	}
}

// kill signals all before it waits for the first, as a loss of power would: a keeper must not have the time to see its agent go
// and to free the lease in good order. then runs between the two.
func (h *host) kill(pids []int, then func() error) error {
	handles, err := open(pids)
	if err != nil {
		return err
	}
	defer closeHandles(handles)
	for _, p := range handles {
		err = errors.Join(err, p.Signal(unix.SIGKILL))
	}
	if then != nil {
		err = errors.Join(err, then())
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	for _, p := range handles {
		err = errors.Join(err, h.awaitKilled(ctx, p))
	}
	return err
}

// awaitKilled waits until a process has exited and somebody has taken its exit status: run that of the agent, the agent that of its
// keeper, and we that of a keeper without an agent.
func (h *host) awaitKilled(ctx context.Context, p *procs.Handle) error {
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("%w; a process that waits for a hung disk cannot die before the disk is thawed", err)
	}
	h.mu.Lock()
	agent, gone := h.pid == p.PID(), h.gone
	h.mu.Unlock()
	if !agent {
		p.Reap()
		return nil
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PowerOff is the power cut: both processes are killed at once, the way to the LUN is cut, and the host's disk loses what was not
// flushed. It returns when all are gone. The host stays off until Start.
func (p *Pool) PowerOff(name string) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	h.power.Lock()
	defer h.power.Unlock()
	h.mu.Lock()
	off := h.off
	h.mu.Unlock()
	if off {
		return nil
	}
	h.setWant(false)
	if err := h.killAll(h.lose); err != nil {
		return fmt.Errorf("cutting the power of %s: %w", name, err)
	}
	if h.disk != nil {
		err = h.disk.unmount()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.off = true
	h.p.notePower(history.Power{Host: name, Kind: history.PowerIsOff, At: h.p.now()})
	return err
}

// lose cuts the way to the LUN and stops the disk, thawed, so that writers which wait for it can die.
func (h *host) lose() error {
	var err error
	switch {
	case h.p.cfg.Cut != nil:
		err = h.p.cfg.Cut(h.name)
	case h.p.can[Storage]:
		err = h.p.UnplugStorage(h.name)
	}
	if h.disk != nil {
		err = errors.Join(err, h.disk.losePower())
	}
	return err
}

// gain is the way back.
func (h *host) gain() error {
	h.mu.Lock()
	off := h.off
	h.mu.Unlock()
	if off { // before anything of it can reach the LUN
		h.p.notePower(history.Power{Host: h.name, Kind: history.PowerIsOn, At: h.p.now()})
	}
	var err error
	switch {
	case !off:
	case h.p.cfg.Mend != nil:
		err = h.p.cfg.Mend(h.name)
	case h.p.can[Storage]:
		err = h.p.PlugStorage(h.name)
	}
	if err == nil && h.disk != nil {
		err = h.disk.mount()
	}
	if err == nil && off {
		err = h.boot()
	}
	if err != nil {
		if off {
			h.p.notePower(history.Power{Host: h.name, Kind: history.PowerIsOff, At: h.p.now()})
		}
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.off = false
	return nil
}

// Start gives a host power and its agent, which starts the keeper, and waits until the agent answers. A host whose agent runs is left
// alone. An agent that dies instead of answering is an error; the supervisor goes on trying.
func (p *Pool) Start(ctx context.Context, name string) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	ends, err := h.powerOn()
	if err != nil || ends < 0 {
		return err
	}
	if err := h.awaitAnswer(ctx, ends); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	return nil
}

// powerOn wants an agent. It says how many have ended before; -1: one runs.
func (h *host) powerOn() (ends int, err error) {
	h.power.Lock()
	defer h.power.Unlock()
	if h.agentPID() != 0 {
		return -1, nil
	}
	if err := h.gain(); err != nil {
		return 0, fmt.Errorf("switching %s on: %w", h.name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.want, h.again = true, true
	h.signal()
	return len(h.exits), nil
}

// awaitAnswer waits until the agent answers or has died.
func (h *host) awaitAnswer(ctx context.Context, ends int) error {
	return poll(ctx, "the agent answers", func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.exits) > ends {
			return fatalError{fmt.Errorf("%w: %s; its log is %s", ErrEnded, h.exits[len(h.exits)-1], h.p.Logs(h.name))}
		}
		if h.pid == 0 {
			return errors.New("it does not run yet")
		}
		return nil
	}, func() error {
		_, err := h.client.Health(ctx)
		return err
	})
}

// fatalError ends a poll.
type fatalError struct{ error }

// Unwrap gives the cause.
func (e fatalError) Unwrap() error { return e.error }

// poll asks until all conditions hold in one round or ctx ends, and then tells what was said last.
func poll(ctx context.Context, what string, conditions ...func() error) error {
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	var last error
	for {
		var now error
		for _, f := range conditions {
			if now = f(); now != nil {
				break
			}
		}
		var fatal fatalError
		if now == nil || errors.As(now, &fatal) {
			return now
		}
		if ctx.Err() == nil || last == nil { // else it only says that the time was over
			last = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w (last: %w)", what, ctx.Err(), last)
		}
	}
}
