package clusterlabs

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fencing/program"
)

// Exit statuses of agents.
const (
	exitDone = 0 // for status: the power is on
	exitOff  = 2 // for status alone
)

// saysOff is how agents say that the power is off.
var saysOff = regexp.MustCompile(`(?mi)^\s*Status:\s*OFF\s*$`)

// Device is an agent with the parameters of one machine.
type Device struct {
	catalog *Catalog
	config  Config
}

// New checks the configuration; it runs nothing yet.
func New(catalog *Catalog, config Config) (*Device, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("fence agent: %w", err)
	}
	return &Device{catalog, config}, nil
}

// Status runs the agent's status.
func (d *Device) Status(ctx context.Context) (fencing.State, error) {
	out, err := d.run(ctx, "status")
	if err != nil {
		return fencing.Unknown, err
	}
	switch {
	case out.Code == exitDone:
		return fencing.On, nil
	case out.Code == exitOff && saysOff.MatchString(out.Stdout):
		return fencing.Off, nil
	case out.Code == exitOff:
		return fencing.Unknown, fmt.Errorf(`%s ended with status 2, but did not say "Status: OFF": %s: %w`, d.config.Agent, d.said(out), fencing.ErrGarbage)
	}
	return fencing.Unknown, d.failed("status", out)
}

// Off runs the agent's off.
func (d *Device) Off(ctx context.Context) error { return d.order(ctx, "off") }

// On runs the agent's on.
func (d *Device) On(ctx context.Context) error { return d.order(ctx, "on") }

// Reset runs the agent's reboot. Many agents make it of off and on, and call it done when the on failed.
func (d *Device) Reset(ctx context.Context) error { return d.order(ctx, "reboot") }

// order runs an action that changes the power. Only exit status 0 is no failure: 2 means off for status alone.
func (d *Device) order(ctx context.Context, action string) error {
	out, err := d.run(ctx, action)
	if err != nil {
		return err
	}
	if out.Code != exitDone {
		return d.failed(action, out)
	}
	return nil
}

// Check compares the parameters with what the agent says that it knows. Nothing is asked of the power device itself.
func (d *Device) Check(ctx context.Context) error {
	warnings, err := d.Warnings(ctx)
	if len(warnings) > 0 {
		fencing.Note(ctx, strings.Join(warnings, "; "))
	}
	return err
}

// Warnings tells what will not work for long, or slowly; err what does not work.
func (d *Device) Warnings(ctx context.Context) ([]string, error) {
	m, err := d.metadata(ctx)
	if err != nil {
		return nil, err
	}
	return d.config.check(m)
}

// metadata is the agent's, which must be one that switches power.
func (d *Device) metadata(ctx context.Context) (Metadata, error) {
	m, err := d.catalog.Metadata(ctx, d.config.Agent)
	if err == nil {
		err = m.switchesPower()
	}
	if err != nil {
		return Metadata{}, fmt.Errorf("%s: %w", d.config.Agent, err)
	}
	return m, nil
}

// run runs one action. Parameters that the agent does not know are sent all the same, for it only warns of them: an upgrade of
// the agent must not be what keeps a host from being fenced. Check names them before.
func (d *Device) run(ctx context.Context, action string) (program.Output, error) {
	m, err := d.metadata(ctx)
	if err != nil {
		return program.Output{}, err
	}
	path, _, err := d.catalog.find(d.config.Agent)
	if err != nil {
		return program.Output{}, err
	}
	out, err := run(ctx, path, input(action, d.config.parameters(m)), 0)
	if err != nil {
		return out, fmt.Errorf("%s %s: %s: %w", d.config.Agent, action, d.said(out), err)
	}
	fencing.Note(ctx, fmt.Sprintf("%s ended with status %d: %s", d.config.Agent, out.Code, d.said(out)))
	return out, nil
}

// failed is the error of an agent that ran and failed.
func (d *Device) failed(action string, out program.Output) error {
	return fmt.Errorf("%s %s ended with status %d: %s: %w", d.config.Agent, action, out.Code, d.said(out), fencing.ErrFailed)
}

// said is the agent's output, bounded and without the secret.
func (d *Device) said(out program.Output) string {
	text := strings.TrimSpace(out.Stdout + "\n" + out.Stderr)
	if text == "" {
		return "no output"
	}
	return fencing.Clean(d.config.Secret.Redact(text), 1000)
}
