package workload

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/nbd"
)

// attach attaches the disk on a host and reads all that was written before: what another host wrote too.
func (g *guest) attach(ctx context.Context, a agent) bool {
	top := g.topLayer()
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	var got api.Attachment
	op := g.ask(ctx, history.Op{Kind: history.GuestAttach, Key: top.id, Host: a.name}, history.GuestInput{Name: top.name.text}, func(ctx context.Context) (answer, error) {
		var err error
		got, err = a.api.AttachVolume(ctx, top.id, a.name, api.VolumeAttach{})
		return answer{out: history.GuestAnswer{}}, err
	})
	if op.Outcome != history.OK {
		g.home = a // another one next time
		return false
	}
	g.hangUp()
	g.home, g.there, g.uri = a, true, got.URI
	g.moves++
	for _, l := range g.layers {
		l.uri = ""
		for _, c := range got.Chain {
			if c.Volume == l.id {
				l.uri = c.URI
			}
		}
	}
	if !g.dial(ctx) {
		return false
	}
	return g.readAll(ctx)
}

// dial connects to the attached volume.
func (g *guest) dial(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, g.conf.Read)
	defer cancel()
	c, err := nbd.Dial(ctx, g.uri)
	if err != nil {
		if g.lost.IsZero() {
			g.lost = time.Now()
		}
		return false
	}
	g.conn, g.lost = c, time.Time{}
	return true
}

// readAll reads everything that was ever written to the disk.
func (g *guest) readAll(ctx context.Context) bool {
	for _, l := range g.layers[:len(g.layers)-1] {
		if !g.readBase(ctx, l) {
			return false
		}
	}
	return g.readLayer(ctx, g.conn, g.topLayer())
}

// readBase reads a volume that others are based on, over a connection of its own.
func (g *guest) readBase(ctx context.Context, l *layer) bool {
	dial, cancel := context.WithTimeout(ctx, g.conf.Read)
	defer cancel()
	c, err := nbd.Dial(dial, l.uri)
	if err != nil {
		return false
	}
	defer c.Close()
	return g.readLayer(ctx, c, l)
}

func (g *guest) readLayer(ctx context.Context, c *nbd.Conn, l *layer) bool {
	for from := 0; from < len(l.blocks); from += readBatch {
		if !g.read(ctx, c, l, l.blocks[from:min(from+readBatch, len(l.blocks))]) {
			if c == g.conn {
				g.hangUp()
			}
			return false
		}
	}
	return true
}

// reconnect looks where the disk is: the export may have been made again, or the host may be another one than before.
func (g *guest) reconnect(ctx context.Context) {
	if g.dial(ctx) {
		return
	}
	if time.Since(g.lost) > lostTime {
		g.there = false // as after a fence: it is started elsewhere
		return
	}
	ctx, cancel := context.WithTimeout(ctx, g.conf.Read)
	defer cancel()
	list, err := g.home.api.Attachments(ctx, g.home.name)
	if err != nil || len(list.Silent) > 0 {
		return // the export may be there all the same
	}
	g.there = false
	for _, a := range list.Attachments {
		if a.Volume == g.topLayer().id {
			g.there = a.State != api.AttachmentBroken
		}
	}
	if !g.there {
		g.sweep(ctx, "")
	}
}

// leave stops the guest in order: it moves, has a snapshot made, or ends.
func (g *guest) leave(ctx context.Context) {
	g.flush(ctx)
	g.hangUp()
	if !g.detach(ctx, g.home, g.topLayer(), false) {
		return // it is looked for where it was
	}
	g.there = false
	switch {
	case g.moves >= lastMove, g.moves > 1 && g.chance(endShare):
		g.leaving = true
	case len(g.layers) < maxLayers && g.chance(snapshotShare):
		g.create(ctx) // once: without an answer the guest goes on with what it has, if the snapshot was not made
		if g.name != nil {
			g.leaving = true // whether the leaf is still one nobody knows
		}
	}
}

// steal starts the guest elsewhere although it runs, as somebody does who takes its host for dead. As long as that one lives it must fail.
func (g *guest) steal(ctx context.Context) {
	was, uri, conn := g.home, g.uri, g.conn
	g.conn = nil
	if g.attach(ctx, g.elsewhere()); g.uri == uri {
		g.home, g.conn, g.there = was, conn, true
		return
	}
	_ = conn.Close() // of a host that was dead
}

// detach undoes an attach.
func (g *guest) detach(ctx context.Context, a agent, l *layer, force bool) bool {
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	op := g.ask(ctx, history.Op{Kind: history.GuestDetach, Key: l.id, Host: a.name}, history.GuestInput{}, func(ctx context.Context) (answer, error) {
		_, err := a.api.DetachVolume(ctx, l.id, a.name, api.VolumeDetach{Force: force})
		return answer{out: history.GuestAnswer{}}, err
	})
	return op.Outcome == history.OK
}

// sweep detaches the disk from all hosts but one: what was broken, or came too late, is still named there. It says whether nothing is
// left.
func (g *guest) sweep(ctx context.Context, but string) bool {
	clean := true
	for _, a := range g.agents {
		if a.name == but {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, g.conf.Read)
		list, err := a.api.Attachments(ask, a.name)
		cancel()
		clean = clean && err == nil && len(list.Silent) == 0
		for _, there := range list.Attachments {
			for _, l := range g.layers {
				if there.Volume == l.id {
					clean = g.detach(ctx, a, l, true) && clean
				}
			}
		}
	}
	return clean
}

// delete removes the top volume, and so on to the base.
func (g *guest) delete(ctx context.Context) {
	if g.name != nil { // the snapshot that nobody knows of
		if g.create(ctx); g.name != nil {
			return
		}
	}
	l := g.topLayer()
	g.going = true
	op := g.deleteAs(ctx, g.disks, l.name, l.id)
	switch {
	case op.Outcome == history.OK, op.Code == api.CodeNotFound:
		g.layers = g.layers[:len(g.layers)-1]
		if len(g.layers) == 0 {
			*g = guest{worker: g.worker}
		}
	case op.Outcome == history.Failed:
		g.sweep(ctx, "") // somebody has it
	}
}

// last moves the guest once more and reads all that it has, when all is well. That it could not is seen by what is not in the record.
func (g *guest) last(ctx context.Context) {
	for len(g.layers) > 0 && g.name != nil && ctx.Err() == nil { // a snapshot that nobody knows of
		g.create(ctx)
	}
	if g.going || len(g.layers) == 0 {
		return
	}
	if g.there && g.conn == nil {
		g.reconnect(ctx)
	}
	if g.there && g.conn != nil {
		g.flush(ctx)
		g.hangUp()
	}
	for ctx.Err() == nil {
		if g.sweep(ctx, "") && g.attach(ctx, g.elsewhere()) {
			break
		}
		_ = pause(ctx, retryTime)
	}
	g.hangUp()
	for ctx.Err() == nil && !g.sweep(ctx, "") {
		_ = pause(ctx, retryTime)
	}
}

// pause waits for a time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
