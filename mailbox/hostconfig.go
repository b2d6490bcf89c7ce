package mailbox

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/mailbox/internal/plant"
)

// HostOptions are the choices of a host's side. Take DefaultHostOptions and change what must differ.
type HostOptions struct {
	// IOTimeout is the deadline of each read and write. Default 10 s.
	IOTimeout time.Duration
	// FirstPoll is how long after a request, or any other step, the first look for the SPM's next step is. Each look in
	// vain makes the time half as long again, up to LastPoll. Defaults 10 ms and 500 ms.
	FirstPoll, LastPoll time.Duration
	// Repeat is the time until a page without an effect is written, and the bell rung, again, in case it got lost. It
	// doubles each time, up to 16 times as much. Default 2 s.
	Repeat time.Duration
	// WithdrawAfter is how long a request may be without an answer. It should be longer than it takes another host to
	// become SPM. Default 60 s.
	WithdrawAfter time.Duration
	// Quarantine is how long the slot of a withdrawn request is not used. Danger: an SPM of VDSM may answer later than
	// that, and its failure would be taken for that of a new request for the same volume in the same slot. Default 60 s.
	Quarantine time.Duration
	// IdleCheck is the time between looks at our own page when nothing is under way, in case a write of an earlier life
	// landed late. Default 60 s.
	IdleCheck time.Duration
	// Queue is how many requests may wait for a slot. Default 1024.
	Queue int
}

// DefaultHostOptions are the defaults.
func DefaultHostOptions() HostOptions {
	return HostOptions{IOTimeout: 10 * time.Second, FirstPoll: 10 * time.Millisecond, LastPoll: 500 * time.Millisecond,
		Repeat: 2 * time.Second, WithdrawAfter: time.Minute, Quarantine: time.Minute, IdleCheck: time.Minute, Queue: 1024}
}

// Validate says what is wrong with the options.
func (o HostOptions) Validate() error {
	for _, d := range []time.Duration{o.IOTimeout, o.FirstPoll, o.LastPoll, o.Repeat, o.WithdrawAfter, o.Quarantine, o.IdleCheck} {
		if d <= 0 {
			return fmt.Errorf("%w: a time of %v: all must be above 0", ErrConfig, d)
		}
	}
	if o.LastPoll < o.FirstPoll {
		return fmt.Errorf("%w: LastPoll %v is below FirstPoll %v", ErrConfig, o.LastPoll, o.FirstPoll)
	}
	if o.Queue < 1 {
		return fmt.Errorf("%w: queue for %d requests", ErrConfig, o.Queue)
	}
	return nil
}

// HostConfig is what NewHost needs.
type HostConfig struct {
	// Inbox is the volume that hosts write to. The host id gives the right to write its page: bind the device to what
	// holds it. No device call may outlive the process of an earlier life of this host.
	Inbox blockdev.Device
	// Outbox is the volume that the SPM writes to.
	Outbox blockdev.Device
	// HostID is 1..249 and the page of this host.
	HostID  int
	Options HostOptions
	Log     *slog.Logger
	// Rand is for the UUIDs of events and the choice of the first slot; nil takes the system's randomness.
	Rand *rand.Rand
	// Bugs is for tests.
	Bugs plant.Bugs
}

// Validate says what is wrong with the configuration.
func (c HostConfig) Validate() error {
	if c.HostID < 1 || c.HostID > MaxHostID {
		return fmt.Errorf("%w: host id %d is not in 1..%d", ErrConfig, c.HostID, MaxHostID)
	}
	if c.Log == nil {
		return fmt.Errorf("%w: no log", ErrConfig)
	}
	return errors.Join(checkVolume("inbox", c.Inbox, c.HostID+1), checkVolume("outbox", c.Outbox, c.HostID+1), c.Options.Validate())
}

// checkVolume says whether a device can be a mailbox volume of so many pages.
func checkVolume(name string, d blockdev.Device, pages int) error {
	switch {
	case d == nil:
		return fmt.Errorf("%w: no %s", ErrConfig, name)
	case d.Size() < int64(pages)*pageSize:
		return fmt.Errorf("%w: %s %s of %d bytes is too small for %d pages", ErrConfig, name, d.Name(), d.Size(), pages)
	case d.SectorSize() <= 0 || pageSize%d.SectorSize() != 0:
		return fmt.Errorf("%w: %s %s has sectors of %d bytes", ErrConfig, name, d.Name(), d.SectorSize())
	}
	return nil
}

// newRand returns r, or a generator seeded from the system.
func newRand(r *rand.Rand) *rand.Rand {
	if r != nil {
		return r
	}
	return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
}
