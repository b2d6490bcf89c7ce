package workload

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/nbd"
	"github.com/holdfast-io/holdfast/jepsen/pattern"
)

// A guest has one disk, whose top volume it has attached on one host at a time. It writes blocks further and further up, so that the
// volume must grow again and again; it flushes, reads back, moves to another host, has snapshots made, and at last deletes all. Where
// its host dies it goes elsewhere, as a guest with high availability does. It leaves the qcow2 header alone and uses the rest of the
// container as it likes, so every block is where it was put.
type guest struct {
	*worker
	layers  []*layer // the base first; the last one is written
	image   string
	home    agent // where it is attached, or was last
	there   bool
	conn    *nbd.Conn
	uri     string
	lost    time.Time // since when there is no connection
	moves   int
	leaving bool // its volumes are to be deleted
	going   bool // one of them may be deleted already
	born    history.VolumeInput
	name    *name // of a volume that is being made
}

// layer is one volume of a guest's disk.
type layer struct {
	name   *name
	id     string
	uri    string  // where it can be read now
	blocks []int64 // that may have been written
	top    int64   // block up to which it was written
}

// Sizes and shares of guests.
const (
	guestCapacity = 1 << 30
	guestInitial  = 100 << 20 // one extent
	guestBlocks   = guestCapacity / pattern.Block
	firstBlock    = (1 << 20) / pattern.Block // behind the qcow2 header and its tables
	maxJump       = (24 << 20) / pattern.Block
	maxLayers     = 3

	flushShare    = 0.12
	againShare    = 0.2 // of writes: to a block that was written before
	lookShare     = 0.04
	leaveShare    = 0.025
	stealShare    = 0.004 // it is started elsewhere without having been stopped
	snapshotShare = 0.3   // of moves
	endShare      = 0.15
	lastMove      = 6
)

// Times of guests.
const (
	guestIO    = 15 * time.Second // longer than an export lets a write wait for space
	attachTime = 15 * time.Second
	lostTime   = 8 * time.Second // how long it waits for its disk to come back
	lastTime   = 2 * time.Minute // for moving and reading once more at the end
	readBatch  = 64              // blocks of one operation
	retryTime  = 200 * time.Millisecond
)

func newGuest(w *worker) *guest { return &guest{worker: w} }

// live lets the guest work until ctx ends. Then, when all faults are over, it moves once more and reads everything.
func (g *guest) live(ctx context.Context) {
	p := newPace(g.conf.GuestRate)
	for p.wait(ctx) {
		g.step(context.WithoutCancel(ctx))
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTime)
	defer cancel()
	g.last(last)
	g.hangUp()
}

// step does what comes next.
func (g *guest) step(ctx context.Context) {
	switch {
	case g.leaving:
		g.delete(ctx)
	case len(g.layers) == 0:
		g.create(ctx)
	case !g.there:
		g.attach(ctx, g.elsewhere())
	case g.conn == nil:
		g.reconnect(ctx)
	default:
		g.work(ctx)
	}
}

// work is one operation of a guest that runs.
func (g *guest) work(ctx context.Context) {
	n := g.rnd.Float64()
	for _, s := range []struct {
		share float64
		do    func(context.Context)
	}{{flushShare, g.flush}, {lookShare, g.look}, {leaveShare, g.leave}, {stealShare, g.steal}} {
		if n -= s.share; n < 0 {
			s.do(ctx)
			return
		}
	}
	g.write(ctx)
}

func (g *guest) topLayer() *layer { return g.layers[len(g.layers)-1] }

// elsewhere draws a host that is not the last one, if there are several.
func (g *guest) elsewhere() agent {
	for {
		if a := g.agent(); len(g.agents) == 1 || a.name != g.home.name {
			return a
		}
	}
}

// create makes the base, or the volume that a snapshot was to make, asking again with the same key where nobody knows.
func (g *guest) create(ctx context.Context) {
	if g.name == nil {
		g.name = g.disks.add()
		g.born = history.VolumeInput{Idempotency: uuid.NewString(), Size: guestCapacity, Format: api.FormatQCOW2, Initial: guestInitial}
		if len(g.layers) > 0 {
			g.born.Parent, g.born.Size, g.born.Initial = g.topLayer().id, 0, 0
		}
	}
	a := g.agent()
	var got api.VolumeCreated
	op := g.ask(ctx, history.Op{Kind: history.VolumeCreate, Key: g.name.text, Host: a.name}, g.born, func(ctx context.Context) (answer, error) {
		var err error
		if g.born.Parent != "" {
			got, err = a.api.SnapshotImage(ctx, g.image, api.ImageSnapshot{Name: g.name.text}, g.born.Idempotency)
		} else {
			got, err = a.api.CreateVolume(ctx, api.VolumeCreate{Name: g.name.text, Size: g.born.Size, Format: g.born.Format, InitialSize: g.born.Initial}, g.born.Idempotency)
		}
		return answer{history.VolumeAnswer{VolumeRef: ref(got.Volume), Mirrored: got.Mirrored}, got.Epoch, got.Index}, err
	})
	g.disks.learn(g.name, op, got.ID)
	switch {
	case op.Outcome == history.OK:
		g.layers = append(g.layers, &layer{name: g.name, id: got.ID, top: firstBlock})
		g.image, g.name = got.Image, nil
	case op.Outcome == history.Failed:
		g.name = nil // under this key it was never made, as far as this answer goes; the checkers know of the others
	}
}

// write writes a block: mostly one further up.
func (g *guest) write(ctx context.Context) {
	l := g.topLayer()
	block := l.top + g.rnd.Int64N(maxJump)
	if again := len(l.blocks) > 0 && g.chance(againShare); again || block >= guestBlocks {
		block = l.blocks[g.rnd.IntN(len(l.blocks))]
	}
	in := history.GuestInput{Block: block, Seq: g.writes.Add(1)}
	b, err := pattern.Make(l.id, block*pattern.Block, in.Seq)
	if err != nil {
		panic("a volume's id is none: " + err.Error())
	}
	if block > l.top {
		l.top = block
	}
	if !slices.Contains(l.blocks, block) {
		l.blocks = append(l.blocks, block)
	}
	g.io(ctx, history.Op{Kind: history.GuestWrite, Key: l.id}, in, func(ctx context.Context) error {
		return g.conn.Write(ctx, b, block*pattern.Block)
	})
}

func (g *guest) flush(ctx context.Context) {
	g.io(ctx, history.Op{Kind: history.GuestFlush, Key: g.topLayer().id}, history.GuestInput{}, g.conn.Flush)
}

// look reads some blocks back.
func (g *guest) look(ctx context.Context) {
	l := g.topLayer()
	if len(l.blocks) == 0 {
		return
	}
	from := g.rnd.IntN(len(l.blocks))
	g.read(ctx, g.conn, l, l.blocks[from:min(from+readBatch, len(l.blocks))])
}

// read reads blocks of a layer and writes down what is there. The connection is gone when it fails.
func (g *guest) read(ctx context.Context, c *nbd.Conn, l *layer, blocks []int64) bool {
	var out history.GuestAnswer
	op := g.record(ctx, history.Op{Kind: history.GuestRead, Key: l.id}, history.GuestInput{Blocks: blocks}, &out, func(ctx context.Context) error {
		b := make([]byte, pattern.Block)
		for _, n := range blocks {
			if err := c.Read(ctx, b, n*pattern.Block); err != nil {
				return err
			}
			out.Seen = append(out.Seen, pattern.See(l.id, n, b))
		}
		return nil
	})
	return op.Outcome == history.OK
}

// io does one operation on the attached volume. Where its outcome is not known the connection is of no use any more, unless the
// export itself has answered.
func (g *guest) io(ctx context.Context, op history.Op, in history.GuestInput, do func(context.Context) error) {
	var failed error
	g.record(ctx, op, in, nil, func(ctx context.Context) error { failed = do(ctx); return failed })
	var refused *nbd.Error
	if failed != nil && !errors.As(failed, &refused) {
		g.hangUp()
	}
}

// record does one operation and writes it down.
func (g *guest) record(ctx context.Context, op history.Op, in history.GuestInput, out *history.GuestAnswer, do func(context.Context) error) history.Op {
	ctx, cancel := context.WithTimeout(ctx, guestIO)
	defer cancel()
	op.Client, op.Host, op.Input, op.Call = g.id, g.home.name, encode(in), g.since()
	err := do(ctx)
	op.Return = g.since()
	op.Outcome, op.Code, op.Error = guestOutcome(op.Kind, err)
	switch {
	case op.Outcome == history.Unknown:
		op.Return = history.Forever
	case op.Outcome == history.OK && out != nil:
		op.Output = encode(out)
	}
	g.log.Add(op)
	return op
}

// CodeNoSpace is the code of a write that was refused because the volume did not grow in time. Nothing of it was written.
const CodeNoSpace = "enospc"

// guestOutcome is what a guest may believe after an error: only "no space" says that nothing was written.
func guestOutcome(kind string, err error) (o history.Outcome, code, text string) {
	var refused *nbd.Error
	switch {
	case err == nil:
		return history.OK, "", ""
	case errors.As(err, &refused) && refused.Errno == nbd.ENOSPC:
		return history.Failed, CodeNoSpace, err.Error()
	case kind == history.GuestRead:
		return history.Failed, "", err.Error()
	}
	return history.Unknown, "", err.Error()
}

// hangUp lets go of the connection.
func (g *guest) hangUp() {
	if g.conn != nil {
		_ = g.conn.Close() // it may be broken
		g.conn, g.lost = nil, time.Now()
	}
}
