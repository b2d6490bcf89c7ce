package manager

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// SoftRestart tries to bring a host back without its power switch. It proves nothing, whatever it returns.
type SoftRestart func(ctx context.Context, h fsm.Host) (evidence string, err error)

// CrashListener hears hosts whose crash kernel saves the memory. It proves nothing: anybody can send what it hears.
type CrashListener interface {
	// Await waits for a first word of the host for up to start.
	Await(ctx context.Context, h fsm.Host, start time.Duration) (heard bool, evidence string, err error)
	// Finished waits until nothing more is heard, for up to limit.
	Finished(ctx context.Context, h fsm.Host, limit time.Duration) (evidence string, err error)
}

// carrySoft tries the soft restart. What follows waits for the host to answer.
func (t *term) carrySoft(ctx context.Context, h fsm.Host, op fsm.FenceOp, intent fsm.FenceStep) error {
	if err := t.stillOn(ctx, h, op); err != nil {
		return t.tell(op, intent, fsm.StepSkipped, "it did not run: "+err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, t.m.cfg.FenceTimeout)
	defer cancel()
	evidence, err := t.m.cfg.Soft(ctx, h)
	if err != nil {
		return t.tell(op, intent, fsm.StepFailed, err.Error())
	}
	return t.tell(op, intent, fsm.StepOK, "the command succeeded, which proves nothing: "+evidence)
}

// carryKdump waits for a crash kernel, so that a dump is not cut short by the power-off.
func (t *term) carryKdump(ctx context.Context, h fsm.Host, op fsm.FenceOp, intent fsm.FenceStep) error {
	p := t.m.cfg.Policy
	heard, evidence, err := t.m.cfg.Kdump.Await(ctx, h, p.KdumpStart)
	switch {
	case err != nil:
		return t.tell(op, intent, fsm.StepFailed, "listening for its crash kernel: "+err.Error())
	case !heard:
		return t.tell(op, intent, fsm.StepSkipped, "no crash kernel was heard within "+p.KdumpStart.String())
	}
	t.note(fsm.Event{Severity: fsm.Warning, Kind: "host.kdump", Host: h.Name, Reason: op.Reason, Evidence: evidence,
		Message: h.Name + " seems to save its memory after a crash: its power stays on for up to " + p.KdumpLimit.String()})
	more, err := t.m.cfg.Kdump.Finished(ctx, h, p.KdumpLimit)
	if err != nil {
		return t.tell(op, intent, fsm.StepUnknown, evidence+"; then: "+err.Error())
	}
	return t.tell(op, intent, fsm.StepOK, evidence+"; "+more)
}
