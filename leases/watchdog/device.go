package watchdog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/internal/clock"
)

// device is a watchdog device that is open and therefore running.
type device interface {
	// setTimeout sets the time to the reset and returns the one that the driver took.
	setTimeout(seconds int) (int, error)
	// keepAlive starts the time anew.
	keepAlive() error
	// release stops the watchdog and closes the device.
	release() error
}

// deviceBackend pets a device. It is open while an entry is armed.
type deviceBackend struct {
	path  string
	fire  time.Duration
	clock clock.Clock
	open  func(path string) (device, error)
	dev   device
}

// probeDevice opens the device, sets its time and stops it again.
func (w *Watchdog) probeDevice(path string, fire time.Duration) (backend, error) {
	b := &deviceBackend{path: path, fire: fire, clock: w.cfg.Clock, open: w.cfg.openDevice}
	dev, err := b.start()
	if err != nil {
		return nil, err
	}
	if err := dev.release(); err != nil {
		return nil, fmt.Errorf("%w: %s does not stop: %w", ErrUnusable, path, err)
	}
	return b, nil
}

// start opens the device with the right time; it runs from here on.
func (b *deviceBackend) start() (device, error) {
	seconds := int(b.fire / time.Second)
	if b.fire%time.Second != 0 || seconds < 1 {
		return nil, fmt.Errorf("%w: %s counts whole seconds, the pool's time is %v", ErrUnusable, b.path, b.fire)
	}
	dev, err := b.open(b.path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	got, err := dev.setTimeout(seconds)
	if err == nil && got != seconds {
		err = fmt.Errorf("its driver fires after %d s, and the pool needs %d s: choose another watchdog, or a profile with that time", got, seconds)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrUnusable, b.path, err), dev.release())
	}
	return dev, nil
}

func (b *deviceBackend) arm(_ context.Context, _ *Entry) error {
	if b.dev != nil {
		return nil
	}
	dev, err := b.start()
	if err != nil {
		return err
	}
	b.dev = dev
	return dev.keepAlive()
}

func (b *deviceBackend) renewed(*Entry) error { return nil } // pet looks at the expiry

// pet starts the time anew if all is good. A pet that came late, because this process slept between the look and the
// call, would let the machine live too long: the rest of the time is taken away again.
func (b *deviceBackend) pet(armed []*Entry) error {
	end := time.Duration(1<<63 - 1)
	for _, e := range armed {
		if !e.good(b.clock.Boot()) {
			return fmt.Errorf("%s: %w", e.Name, ErrExpired)
		}
		end = min(end, time.Duration(e.expiry.Load()))
	}
	if err := b.dev.keepAlive(); err != nil {
		return fmt.Errorf("petting %s: %w", b.path, err)
	}
	if now := b.clock.Boot(); now >= end {
		left := max(end+b.fire-now, time.Second)
		_, err := b.dev.setTimeout(int(left / time.Second))
		return errors.Join(fmt.Errorf("petted %v too late, the time is shortened to %v: %w", now-end, left, ErrExpired), err)
	}
	return nil
}

// disarm stops the device when nothing else is armed.
func (b *deviceBackend) disarm(_ *Entry, left int) error {
	if left > 0 || b.dev == nil {
		return nil
	}
	dev := b.dev
	b.dev = nil
	return dev.release()
}
