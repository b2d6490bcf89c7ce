package extend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/mailbox"
)

// RPC asks the SPM over the network. *cluster.Node is one.
type RPC interface {
	Call(ctx context.Context, host, method string, in, out any) error
}

// Mailbox asks the SPM through the storage. *mailbox.Host is one.
type Mailbox interface {
	Extend(ctx context.Context, m mailbox.Message) error
}

// Config is what an Extender is made of.
type Config struct {
	RPC     RPC
	Mailbox Mailbox
	// SPM names the host that serves as far as this one knows, which may be this one; empty: nobody known.
	SPM func() string

	// Patience is how long the network may take before the storage is asked too (100 ms).
	Patience time.Duration
	// RPCTimeout bounds one call (10 s), Timeout a whole request (90 s): longer than the mailbox keeps one.
	RPCTimeout, Timeout time.Duration
	Log                 *slog.Logger
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Patience, 100*time.Millisecond)
	def(&c.RPCTimeout, 10*time.Second)
	def(&c.Timeout, 90*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// maxWait bounds the wait for space: less than the longest deadline of an RPC.
const maxWait = 50 * time.Minute

var (
	// ErrClosed says that this host's storage is going down. The request may still be carried out.
	ErrClosed = errors.New("this host does not ask for space any more; the volume may have been extended")
	// ErrNoAnswer says that neither network nor storage brought an answer. The request may still be carried out.
	ErrNoAnswer = errors.New("no answer from an SPM; the volume may have been extended")
)

// Request asks for a volume of at least Size bytes.
type Request struct {
	Domain, Volume string // UUIDs
	Size           int64
	// Paused says that a guest stands still until then, SecondsToFull how soon one will (0: nobody knows). They decide who goes
	// first when space is short; the mailbox does not carry them.
	Paused        bool
	SecondsToFull float64
	// Wait is how long to wait for space when the SPM has none. The mailbox knows no waiting.
	Wait time.Duration
	// StorageOnly leaves the network out, to see that the mailbox works.
	StorageOnly bool
}

// Stats counts what an Extender did.
type Stats struct {
	Requests   uint64 // carried out; equal ones that came meanwhile are one
	ByRPC      uint64 // done, by the answer of the network
	ByMailbox  uint64 // done, by the answer of the storage
	Failed     uint64
	UnderWay   int
	NetworkBad bool // the last call had no answer, so both ways are used at once
}

// Extender asks for larger volumes. Make it with New, Close it. It is safe for concurrent use.
type Extender struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	silent atomic.Bool // the last call had no answer

	requests, byRPC, byMailbox, failed atomic.Uint64

	mu     sync.Mutex // guards what follows
	calls  map[key]*call
	closed bool
}

// key tells equal requests: the mailbox knows sizes in MiB only.
type key struct {
	volume mailbox.Message
	paused bool
	wait   time.Duration
	only   bool // through the storage
}

// call is a request under way, which several callers may wait for.
type call struct {
	done chan struct{} // closed when err is there
	err  error
}

// New makes an Extender.
func New(cfg Config) (*Extender, error) {
	if cfg.RPC == nil || cfg.Mailbox == nil || cfg.SPM == nil {
		return nil, errors.New("extend: RPC, Mailbox and SPM are required")
	}
	e := &Extender{cfg: cfg.withDefaults(), calls: map[key]*call{}}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	return e, nil
}

// Close ends all requests and waits for them. Their callers get ErrClosed.
func (e *Extender) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel(ErrClosed)
	e.wg.Wait()
}

// Stats is safe to call at any time.
func (e *Extender) Stats() Stats {
	e.mu.Lock()
	n := len(e.calls)
	e.mu.Unlock()
	return Stats{Requests: e.requests.Load(), ByRPC: e.byRPC.Load(), ByMailbox: e.byMailbox.Load(), Failed: e.failed.Load(), UnderWay: n,
		NetworkBad: e.silent.Load()}
}

// Extend is Ask without a word about urgency.
func (e *Extender) Extend(ctx context.Context, domain, volume string, size int64) error {
	return e.Ask(ctx, Request{Domain: domain, Volume: volume, Size: size})
}

// Ask returns nil once the SPM says that the volume has at least the size. A request equal to one that is under way gets its
// answer. When ctx ends the wait is over, but not the request: what needed the space still does. domain.ErrNoSpace says that the
// SPM has none now; ask again.
func (e *Extender) Ask(ctx context.Context, r Request) error {
	m, err := message(r)
	if err != nil {
		return err
	}
	c, err := e.join(m, r)
	if err != nil {
		return fmt.Errorf("extending %s: %w", m, err)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return fmt.Errorf("extending %s: no answer yet, it may still be done: %w", m, context.Cause(ctx))
	}
	if c.err != nil {
		return fmt.Errorf("extending %s: %w", m, c.err)
	}
	return nil
}

// message is a request as the mailbox carries it. It also refuses what makes no sense.
func message(r Request) (mailbox.Message, error) {
	const mib, most = 1 << 20, 1<<32 - 1
	if r.Wait < 0 || r.Wait > maxWait {
		return mailbox.Message{}, fmt.Errorf("extending volume %s: waiting %v for space, at most %v are allowed: %w", r.Volume, r.Wait, maxWait, spm.ErrInvalid)
	}
	if r.Size <= 0 || (r.Size-1)/mib >= most {
		return mailbox.Message{}, fmt.Errorf("extending volume %s to %d bytes: %w", r.Volume, r.Size, spm.ErrInvalid)
	}
	dom, err := mailbox.ParseUUID(r.Domain)
	if err != nil {
		return mailbox.Message{}, fmt.Errorf("domain of volume %s: %w: %w", r.Volume, spm.ErrInvalid, err)
	}
	vol, err := mailbox.ParseUUID(r.Volume)
	if err != nil {
		return mailbox.Message{}, fmt.Errorf("volume to extend: %w: %w", spm.ErrInvalid, err)
	}
	return mailbox.Message{Domain: dom, Volume: vol, SizeMiB: uint32((r.Size-1)/mib + 1)}, nil
}

// join finds the call of an equal request, or begins one.
func (e *Extender) join(m mailbox.Message, r Request) (*call, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	k := key{m, r.Paused, r.Wait, r.StorageOnly}
	if c := e.calls[k]; c != nil {
		return c, nil
	}
	c := &call{done: make(chan struct{})}
	e.calls[k] = c
	e.requests.Add(1)
	e.wg.Go(func() { e.carryOut(k, c, r) })
	return c, nil
}

// carryOut asks, on one way or both, until there is an answer, and tells those who wait. It returns when both ways are done.
func (e *Extender) carryOut(k key, c *call, r Request) {
	ctx, cancel := context.WithTimeout(e.ctx, e.cfg.Timeout+r.Wait)
	g := &race{e: e, m: k.volume, r: r, ctx: ctx, answers: make(chan answer, 2)}
	c.err = g.run()
	switch {
	case c.err != nil && e.ctx.Err() != nil:
		c.err = ErrClosed
		fallthrough
	case c.err != nil:
		e.failed.Add(1)
	}
	e.mu.Lock()
	delete(e.calls, k)
	e.mu.Unlock()
	close(c.done)
	cancel()
	g.wg.Wait()
}
