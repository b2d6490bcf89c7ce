package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// FollowerConfig says what to follow and how.
type FollowerConfig struct {
	// Config is how the first host is reached. The others, which it names, are reached with the same token and certificates.
	Config
	// Others are addresses of further hosts, where they are known already: the first one may die before it names them. They
	// are still asked, last, when hosts name others.
	Others []string
	Filter EventFilter
	// After is the id of the last event that was seen; empty follows from now on.
	After string
	// Silence is after how long without a word a connection counts as dead. Default 15 s: three heartbeats of a host.
	Silence time.Duration
	// Stale is how old a host's mirror may be before another host is asked, which may know more. Default 15 s.
	Stale time.Duration
	// Pause is the first pause after all hosts have failed; it doubles up to MaxPause. Defaults 250 ms and 10 s.
	Pause, MaxPause time.Duration
	// Notify is told of the host that events come from now (err is nil), and why one was left. nil: nobody is.
	Notify func(address string, err error)
}

func (c FollowerConfig) withDefaults() FollowerConfig {
	c.Address = cmp.Or(c.Address, DefaultAddress)
	c.Silence = cmp.Or(c.Silence, 15*time.Second)
	c.Stale = cmp.Or(c.Stale, 15*time.Second)
	c.Pause = cmp.Or(c.Pause, 250*time.Millisecond)
	c.MaxPause = cmp.Or(c.MaxPause, 10*time.Second)
	if c.Notify == nil {
		c.Notify = func(string, error) {}
	}
	return c
}

// Followed is what a Follower hands on: an event, or the word that some may be missing before the next one.
type Followed struct {
	Event *api.Event
	Gap   *api.EventGap
}

// Follower follows the pool's events through whichever host answers, each once and in order. Events are replicated under the
// same ids everywhere, so another host goes on where the last one stopped.
type Follower struct {
	cfg     FollowerConfig
	hosts   []string // addresses; the first is the one that was given
	clients map[string]*Client
	at      int // the present one of hosts

	seen   api.EventID
	placed bool // seen is valid

	served  bool // a host has sent something
	refused int  // hosts in a row that said that this can never work
	failed  int  // hosts in a row that failed in any way

	old     int       // hosts in a row that were cut off from the cluster
	content time.Time // until then a host that is cut off will do, because all are
}

// NewFollower makes a Follower. It does not connect yet.
func NewFollower(c FollowerConfig) (*Follower, error) {
	c = c.withDefaults()
	f := &Follower{cfg: c, clients: map[string]*Client{}}
	for _, addr := range append([]string{c.Address}, c.Others...) {
		if _, err := f.client(addr); err != nil {
			return nil, err
		}
		if !slices.Contains(f.hosts, addr) {
			f.hosts = append(f.hosts, addr)
		}
	}
	if c.After != "" {
		id, err := api.ParseEventID(c.After)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "give the id of an event", "%v", err)
		}
		f.seen, f.placed = id, true
	}
	return f, nil
}

// Run hands events to handle until ctx ends, which is no error, or handle fails. Before any host has answered it gives up
// when all that it knows have failed; afterwards only when all of them refuse.
func (f *Follower) Run(ctx context.Context, handle func(Followed) error) error {
	defer f.close()
	pause := f.cfg.Pause
	for {
		before := f.failed
		err := f.follow(ctx, handle)
		var fatal *handleError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &fatal):
			return fatal.err
		case f.failed > before && f.hopeless():
			return err
		}
		f.cfg.Notify(f.hosts[f.at], err)
		f.at = (f.at + 1) % len(f.hosts)
		if f.failed == 0 {
			pause = f.cfg.Pause
		} else if f.failed%len(f.hosts) == 0 {
			rest(ctx, pause/2+rand.N(pause/2+1))
			pause = min(2*pause, f.cfg.MaxPause)
		}
	}
}

// hopeless says whether trying again makes no sense.
func (f *Follower) hopeless() bool {
	return f.refused >= len(f.hosts) || !f.served && f.failed >= len(f.hosts)
}

// handleError is an error of the caller's function.
type handleError struct{ err error }

// Error implements error.
func (e *handleError) Error() string { return e.err.Error() }

// follow reads one stream to its end, and counts how that went.
func (f *Follower) follow(ctx context.Context, handle func(Followed) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(f.cfg.Silence, func() { cancel(errSilent) })
	defer silent.Stop()
	begun := time.Now()
	heard, err := f.read(ctx, handle, func() { silent.Reset(f.cfg.Silence) })
	if errors.Is(context.Cause(ctx), errSilent) {
		err = errSilent
	}
	f.count(heard, time.Since(begun) < shortStream, err)
	return err
}

// shortStream is how long a stream must last to be no failure: a host that ends each at once would be asked without a pause.
const shortStream = time.Second

// errSilent says that a host went silent; errOld that it does not hear from the cluster.
var (
	errSilent = api.Errorf(api.CodeTimeout, "see whether the host runs", "the host has gone silent")
	errOld    = errors.New("the host is cut off from the cluster")
)

// count keeps the numbers that say whether to go on.
func (f *Follower) count(heard, short bool, err error) {
	var e *api.Error
	refused := !heard && errors.As(err, &e) && e.HTTPStatus() < 500
	f.served = f.served || heard
	if heard && !short && !errors.Is(err, errOld) {
		f.failed, f.refused = 0, 0
		return
	}
	f.failed++
	if f.refused++; !refused {
		f.refused = 0
	}
}

// read connects to the present host and hands on what it sends. heard says that it is one that can be followed.
func (f *Follower) read(ctx context.Context, handle func(Followed) error, alive func()) (heard bool, err error) {
	addr := f.hosts[f.at]
	c, err := f.client(addr)
	if err != nil {
		return false, err
	}
	body, err := c.openStream(ctx, f.after(), f.cfg.Filter)
	if err != nil {
		return false, err
	}
	defer func() { _ = body.Close() }() // it was read to its end, or given up
	d := newDecoder(body)
	for {
		m, err := d.next()
		if err != nil {
			return heard, ended(err)
		}
		alive()
		if err := f.take(m, handle); err != nil {
			return heard, err
		}
		if !heard {
			heard = true
			f.cfg.Notify(addr, nil)
			f.learn(ctx, c)
		}
	}
}

// ended says why a stream broke off.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("the connection was closed")
	}
	return api.Errorf(api.CodeUnavailable, "", "the stream of events broke off: %v", err)
}

func (f *Follower) after() string {
	if !f.placed {
		return ""
	}
	return f.seen.String()
}

// take handles one message.
func (f *Follower) take(m message, handle func(Followed) error) error {
	switch m.name {
	case "":
		e, err := parse[api.Event](m)
		if err != nil {
			return err
		}
		return f.hand(e, handle)
	case api.StreamGap:
		g, err := parse[api.EventGap](m)
		if err != nil {
			return err
		}
		return handled(handle(Followed{Gap: &g}))
	case api.StreamHeartbeat:
		p, err := parse[api.EventPulse](m)
		if err != nil {
			return err
		}
		return f.pulse(m, p)
	case api.StreamEnd:
		e, err := parse[api.EventEnd](m)
		if err != nil {
			return err
		}
		return api.Errorf(cmp.Or(e.Code, api.CodeUnavailable), "", "the host ended the stream: %s", e.Reason)
	}
	return nil // a newer host says something that we do not know
}

// hand hands on an event that was not seen yet.
func (f *Follower) hand(e api.Event, handle func(Followed) error) error {
	if f.placed && e.Place().Compare(f.seen) <= 0 {
		return nil
	}
	if err := handled(handle(Followed{Event: &e})); err != nil {
		return err
	}
	f.seen, f.placed = e.Place(), true
	return nil
}

func handled(err error) error {
	if err != nil {
		return &handleError{err}
	}
	return nil
}

// pulse takes note of how far the stream has come, and leaves a host that is cut off.
func (f *Follower) pulse(m message, p api.EventPulse) error {
	if id, err := api.ParseEventID(m.id); err == nil && (!f.placed || id.Compare(f.seen) > 0) {
		f.seen, f.placed = id, true
	}
	age := time.Duration(p.AgeMS) * time.Millisecond
	if age <= f.cfg.Stale {
		f.old = 0
		return nil
	}
	return f.cutOff(age)
}

// cutOff decides about a host whose mirror is old. When all hosts are cut off one is as good as another, for a while.
func (f *Follower) cutOff(age time.Duration) error {
	now := time.Now()
	switch {
	case len(f.hosts) < 2 || now.Before(f.content):
		return nil
	case f.old >= len(f.hosts):
		f.old, f.content = 0, now.Add(2*f.cfg.Stale)
		return nil
	}
	f.old++
	return fmt.Errorf("%w: what it knows is %s old", errOld, age.Round(time.Second))
}

// learnTime bounds asking for the other hosts.
const learnTime = 5 * time.Second

// learn asks a host for the others. Without an answer those that are known stay. Addresses that the caller gave are asked last and
// never forgotten: what hosts name may be reached from hosts alone.
func (f *Follower) learn(ctx context.Context, c *Client) {
	ctx, cancel := context.WithTimeout(ctx, learnTime)
	defer cancel()
	l, _, err := c.Hosts(ctx, Read{})
	if err != nil {
		return
	}
	present := f.hosts[f.at]
	hosts := []string{f.cfg.Address}
	for _, h := range l {
		if h.HTTP != "" && !slices.Contains(hosts, h.HTTP) {
			hosts = append(hosts, h.HTTP)
		}
	}
	for _, addr := range append([]string{present}, f.cfg.Others...) {
		if !slices.Contains(hosts, addr) {
			hosts = append(hosts, addr)
		}
	}
	f.hosts, f.at = hosts, slices.Index(hosts, present)
	for addr, c := range f.clients {
		if !slices.Contains(hosts, addr) {
			c.Close()
			delete(f.clients, addr)
		}
	}
}

// client is the one for an address.
func (f *Follower) client(addr string) (*Client, error) {
	if c := f.clients[addr]; c != nil {
		return c, nil
	}
	cfg := f.cfg.Config
	cfg.Address = addr
	c, err := New(cfg)
	if err == nil {
		f.clients[addr] = c
	}
	return c, err
}

func (f *Follower) close() {
	for _, c := range f.clients {
		c.Close()
	}
}

// rest waits for a while, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
