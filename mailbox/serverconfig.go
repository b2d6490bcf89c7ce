package mailbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/mailbox/internal/plant"
)

// Request is what a host asks for.
type Request struct {
	Message
	// Host is the page that it stands in. Any machine that can write to the storage can write there.
	Host int
	// Slot is where in the page.
	Slot int
}

// Handler extends volumes. It is called by several goroutines at once.
type Handler interface {
	// Extend makes a volume at least as large as asked and returns nil when it is so, also when it was before. It must
	// check that the domain belongs to the pool, must be idempotent, must do each write under the SPM lease, and must
	// return soon when ctx ends. Any error becomes the answer "not done"; a host asks again by itself.
	Extend(ctx context.Context, r Request) error
}

// ServerOptions are the choices of the SPM's side. Take DefaultServerOptions and change what must differ.
type ServerOptions struct {
	// Hosts is how many pages there are, the event block included. VDSM's SPM has 250: host ids up to 249. Default 250.
	Hosts int
	// IOTimeout is the deadline of each read and write, and how long the lease must last for a write. Default 10 s.
	IOTimeout time.Duration
	// IdlePoll is the time between looks at the event block, one sector. Default 100 ms. ActivePoll is the same for
	// ActiveFor after something went on. Defaults 10 ms and 1 s.
	IdlePoll, ActivePoll, ActiveFor time.Duration
	// FullScan is the time between looks at all pages, for hosts that did not ring. Default 10 s.
	FullScan time.Duration
	// SilentScan is the time between looks at the page of a host that is known to ask without ringing. Default 2 s.
	SilentScan time.Duration
	// AnswerWithin is the time from the sight of a request until it is answered "not done" if it was not done until
	// then. Default 60 s.
	AnswerWithin time.Duration
	// Repeat is the time until an answer or acknowledgement that had no effect is written again, in case it got lost. It
	// doubles each time, up to 64 times as much. It must be longer than a host of VDSM needs between two looks at its page
	// (2 s). Default 5 s.
	Repeat time.Duration
	// Workers is how many requests are handled at the same time for each domain. Default 8.
	Workers int
	// Queue is how many requests are taken in, handled ones included. The others wait in their slots. Default 512.
	Queue int
}

// DefaultServerOptions are the defaults.
func DefaultServerOptions() ServerOptions {
	return ServerOptions{Hosts: 250, IOTimeout: 10 * time.Second, IdlePoll: 100 * time.Millisecond,
		ActivePoll: 10 * time.Millisecond, ActiveFor: time.Second, FullScan: 10 * time.Second, SilentScan: 2 * time.Second,
		AnswerWithin: time.Minute, Repeat: 5 * time.Second, Workers: 8, Queue: 512}
}

// Validate says what is wrong with the options.
func (o ServerOptions) Validate() error {
	for _, d := range []time.Duration{o.IOTimeout, o.IdlePoll, o.ActivePoll, o.ActiveFor, o.FullScan, o.SilentScan,
		o.AnswerWithin, o.Repeat} {
		if d <= 0 {
			return fmt.Errorf("%w: a time of %v: all must be above 0", ErrConfig, d)
		}
	}
	if o.Hosts < 2 || o.Hosts > maxPages {
		return fmt.Errorf("%w: %d pages are not in 2..%d", ErrConfig, o.Hosts, maxPages)
	}
	if o.Workers < 1 || o.Queue < o.Workers {
		return fmt.Errorf("%w: %d workers with a queue for %d requests", ErrConfig, o.Workers, o.Queue)
	}
	return nil
}

// ServerConfig is what NewServer needs.
type ServerConfig struct {
	// Inbox is the volume that hosts write to; it is only read.
	Inbox blockdev.Device
	// Outbox is the volume that is written, under Guard. Nobody else may write it.
	Outbox blockdev.Device
	// Guard is the SPM lease.
	Guard   blockdev.Guard
	Handler Handler
	Options ServerOptions
	Log     *slog.Logger
	// Bugs is for tests.
	Bugs plant.Bugs
}

// Validate says what is wrong with the configuration.
func (c ServerConfig) Validate() error {
	if c.Guard == nil || c.Handler == nil || c.Log == nil {
		return fmt.Errorf("%w: guard, handler and log are needed", ErrConfig)
	}
	if err := c.Options.Validate(); err != nil {
		return err
	}
	return errors.Join(checkVolume("inbox", c.Inbox, c.Options.Hosts), checkVolume("outbox", c.Outbox, c.Options.Hosts))
}
