package extend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/mailbox"
)

// race is one request on its two ways. All of it but the ways themselves belongs to one goroutine.
type race struct {
	e   *Extender
	m   mailbox.Message
	r   Request
	ctx context.Context
	wg  sync.WaitGroup

	answers chan answer // has room for one of each way
	rpc     way
	mail    way
	asked   bool // through the storage
}

// way is what is known of one way.
type way struct {
	over bool
	err  error // when over
}

// answer is what a way ended with.
type answer struct {
	way *way
	err error
}

// run returns the answer that counts.
func (g *race) run() error {
	patience := g.e.cfg.Patience
	if !g.callRPC() || g.e.silent.Load() {
		patience = 0
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	var refused <-chan time.Time
	for {
		if refused == nil && g.mailRefused() {
			refused = time.After(reasonTime)
		}
		select {
		case <-t.C:
			g.askMailbox()
		case <-refused:
			return fmt.Errorf("%w; the SPM has not answered over the network yet", g.mail.err)
		case a := <-g.answers:
			if done, err := g.take(a); done {
				return err
			}
		case <-g.ctx.Done():
			return fmt.Errorf("%w: %w", ErrNoAnswer, errors.Join(g.rpc.err, g.mail.err, context.Cause(g.ctx)))
		}
	}
}

// reasonTime is how long the network may still take when the storage has brought a refusal, which says no reason. Who asks may want less
// then, so he must not wait for a host that died in the middle of the call.
const reasonTime = time.Second

// mailRefused says that the SPM has said no through the storage, and that nobody is to wait for space in it.
func (g *race) mailRefused() bool {
	return g.mail.over && g.r.Wait == 0 && errors.Is(g.mail.err, mailbox.ErrRefused)
}

// callRPC begins the call to the SPM; false: nobody is known to be it.
func (g *race) callRPC() bool {
	if g.r.StorageOnly {
		g.rpc.over = true
		return false
	}
	host := g.e.cfg.SPM()
	if host == "" {
		g.rpc = way{over: true, err: errors.New("no host is known to be the SPM")}
		return false
	}
	g.wg.Go(func() {
		ctx, cancel := context.WithTimeout(g.ctx, g.e.cfg.RPCTimeout+g.r.Wait)
		defer cancel()
		var rep spm.ExtendReply
		err := g.e.cfg.RPC.Call(ctx, host, spm.MethodExtend, spm.ExtendRequest{Domain: g.r.Domain, Volume: g.r.Volume, Size: g.r.Size,
			Paused: g.r.Paused, SecondsToFull: g.r.SecondsToFull, Wait: g.r.Wait, Unmirrored: true}, &rep)
		var remote *transport.RemoteError
		switch {
		case err == nil:
			g.e.heard()
			err = rep.Err()
		case errors.As(err, &remote):
			g.e.heard()
		case g.ctx.Err() == nil: // else nobody waits for it any more, which says nothing
			g.e.unheard(host, err)
		}
		g.answers <- answer{&g.rpc, err}
	})
	return true
}

// heard notes that the network brings answers.
func (e *Extender) heard() {
	if e.silent.Swap(false) {
		e.cfg.Log.Info("the SPM answers over the network again")
	}
}

// unheard notes that a call had no answer.
func (e *Extender) unheard(host string, err error) {
	if !e.silent.Swap(true) {
		e.cfg.Log.Warn("the SPM does not answer over the network; volumes are extended through the storage", "spm", host, "error", err)
	}
}

// askMailbox begins to ask through the storage, once.
func (g *race) askMailbox() {
	if g.asked {
		return
	}
	g.asked = true
	g.wg.Go(func() {
		g.answers <- answer{&g.mail, g.e.cfg.Mailbox.Extend(g.ctx, g.m)}
	})
}

// take takes an answer in, and tells whether it settles the request.
func (g *race) take(a answer) (done bool, err error) {
	a.way.over, a.way.err = true, a.err
	switch {
	case a.err == nil && a.way == &g.rpc:
		g.e.byRPC.Add(1)
		return true, nil
	case a.err == nil:
		g.e.byMailbox.Add(1)
		return true, nil
	case a.way == &g.rpc && final(a.err):
		return true, a.err
	}
	g.askMailbox()
	if !g.rpc.over || !g.mail.over {
		return false, nil
	}
	return true, errors.Join(g.mail.err, g.rpc.err)
}

// final tells whether the SPM's refusal holds on the other way too.
func final(err error) bool {
	return errors.Is(err, domain.ErrNoSpace) || errors.Is(err, domain.ErrNotFound) || errors.Is(err, spm.ErrInvalid)
}
