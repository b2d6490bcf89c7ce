package ipmi

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/holdfast-io/holdfast/fencing"
)

// Device is one BMC. Each call has a socket and a session of its own.
type Device struct {
	config Config
	target string
	// waits are those of the last cipher suite and of commands; shortWaits of suites that have a next one: some BMCs do not
	// answer at all when they do not know one.
	waits, shortWaits []time.Duration
	// worked is the cipher suite of the last session, 0 if there was none.
	worked atomic.Int32
}

// Status asks for the chassis status.
func (d *Device) Status(ctx context.Context) (fencing.State, error) {
	state := fencing.Unknown
	err := d.with(ctx, func(s *session) error {
		data, err := s.command(ctx, types.CommandGetChassisStatus, nil)
		if err != nil {
			return err
		}
		var res chassis.GetChassisStatusResponse
		if err := res.Unpack(data); err != nil {
			return fmt.Errorf("chassis status of %d bytes: %w", len(data), fencing.ErrGarbage)
		}
		state = fencing.Off
		if res.PowerIsOn {
			state = fencing.On
		}
		fencing.Note(ctx, fmt.Sprintf("chassis status %x with cipher suite %d", data, s.keys.suite.id))
		return nil
	})
	if err != nil {
		return fencing.Unknown, err
	}
	return state, nil
}

// Off orders power down, without asking the operating system.
func (d *Device) Off(ctx context.Context) error {
	return d.control(ctx, chassis.ChassisControlPowerDown)
}

// On orders power up.
func (d *Device) On(ctx context.Context) error { return d.control(ctx, chassis.ChassisControlPowerUp) }

// Reset orders a hard reset.
func (d *Device) Reset(ctx context.Context) error {
	return d.control(ctx, chassis.ChassisControlHardReset)
}

func (d *Device) control(ctx context.Context, c chassis.ChassisControl) error {
	req := &chassis.ChassisControlRequest{ChassisControl: c}
	return d.with(ctx, func(s *session) error {
		_, err := s.command(ctx, types.CommandChassisControl, req.Pack())
		return err
	})
}

// with runs fn in a session with the wanted privilege, and ends the session.
func (d *Device) with(ctx context.Context, fn func(*session) error) error {
	l, err := dial(ctx, d.target)
	if err != nil {
		return err
	}
	defer l.close()
	s, err := d.login(ctx, l)
	if err != nil {
		return fmt.Errorf("BMC %s: %w", d.target, err)
	}
	defer s.close(ctx)
	level := []byte{byte(privileges[d.config.Privilege])}
	if _, err := s.command(ctx, types.CommandSetSessionPrivilegeLevel, level); err != nil {
		if errors.Is(err, fencing.ErrRefused) {
			err = fmt.Errorf("%w: %w", fencing.ErrAuth, err)
		}
		return fmt.Errorf("BMC %s: asking for the privilege %s: %w", d.target, d.config.Privilege, err)
	}
	if err := fn(s); err != nil {
		return fmt.Errorf("BMC %s: %w", d.target, err)
	}
	return nil
}

// login tries the cipher suites in order, while the BMC does not know them or does not answer. The one that worked is kept:
// a BMC that is silent about the others would cost the wait with each call.
func (d *Device) login(ctx context.Context, l *link) (*session, error) {
	ciphers := d.config.Ciphers
	if known := int(d.worked.Load()); known != 0 {
		ciphers = []int{known}
	}
	var last error
	for i, id := range ciphers {
		waits := d.waits
		if i < len(ciphers)-1 {
			waits = d.shortWaits
		}
		s, err := openSession(ctx, l, waits, suites[id], d.config)
		if err == nil {
			s.waits = d.waits
			d.worked.Store(int32(id))
			return s, nil
		}
		last = err
		silent := errors.Is(err, fencing.ErrUnreachable) || errors.Is(err, fencing.ErrForged)
		if ctx.Err() != nil || !errors.Is(err, errCipher) && !silent {
			break
		}
	}
	if errors.Is(last, errCipher) {
		d.worked.Store(0)
		return nil, fmt.Errorf("none of the cipher suites %v: %w: %w", ciphers, fencing.ErrRefused, last)
	}
	return nil, last
}
