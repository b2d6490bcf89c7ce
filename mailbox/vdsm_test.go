package mailbox

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// Peers that behave as the description of VDSM's two sides says, quirks included. They share no code with ours but the
// codec, which the golden files judge.

func ioDo(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return f(ctx)
}

// vdsmHost is VDSM's host side. One request at a time for each volume; callbacks get the size that was asked for.
type vdsmHost struct {
	inbox, outbox blockdev.Device
	id            int
	events        bool
	rng           *rand.Rand

	mu    sync.Mutex // guards the rest
	queue []Message
	calls map[Message]chan struct{}
}

func (v *vdsmHost) send(m Message) <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := make(chan struct{})
	v.calls[m] = c
	v.queue = append(v.queue, m)
	return c
}

func (v *vdsmHost) run(ctx context.Context) {
	off := int64(v.id) * pageSize
	out, last, in := make([]byte, pageSize), make([]byte, pageSize), make([]byte, pageSize)
	active := map[int]Message{}
	for ioDo(func(ctx context.Context) error { return v.outbox.ReadAt(ctx, last, off) }) != nil {
		if !pause(ctx, 2*time.Second) {
			return
		}
	}
	v.write(out)
	for {
		dirty := v.fill(out, active)
		if ioDo(func(ctx context.Context) error { return v.outbox.ReadAt(ctx, in, off) }) == nil {
			dirty = v.answers(out, last, in, active) || dirty
			copy(last, in)
		}
		if dirty {
			v.write(out)
		}
		wait := 2 * time.Second
		if len(active) > 0 && v.events {
			wait = 500 * time.Millisecond
		}
		if !pause(ctx, wait) {
			v.write(make([]byte, pageSize))
			return
		}
	}
}

func (v *vdsmHost) fill(out []byte, active map[int]Message) (dirty bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.queue) > 0 && len(active) < slotCount {
		i := 0
		for _, used := active[i]; used; _, used = active[i] {
			i++
		}
		active[i] = v.queue[0]
		b := v.queue[0].Encode()
		copy(slotOf(out, i), b[:])
		v.queue, dirty = v.queue[1:], true
	}
	return dirty
}

func (v *vdsmHost) answers(out, last, in []byte, active map[int]Message) (dirty bool) {
	for i, m := range active {
		now := slotOf(in, i)
		if now[0] == 0 || bytes.Equal(now[:slotSize-1], slotOf(last, i)[:slotSize-1]) {
			continue
		}
		dirty = true
		if stateOf(now) == Clean {
			putEmpty(slotOf(out, i))
			delete(active, i)
			continue
		}
		putClean(slotOf(out, i))
		b := m.Encode()
		v.mu.Lock()
		if c := v.calls[m]; c != nil && bytes.Equal(now[:sizeAt], b[:sizeAt]) {
			close(c)
		}
		delete(v.calls, m)
		v.mu.Unlock()
	}
	return dirty
}

func (v *vdsmHost) write(out []byte) {
	sealPage(out)
	_ = ioDo(func(ctx context.Context) error { return v.inbox.WriteAt(ctx, out, int64(v.id)*pageSize) })
	if v.events {
		var id UUID
		for i := range id {
			id[i] = byte(v.rng.IntN(256))
		}
		_ = ioDo(func(ctx context.Context) error { return v.inbox.WriteAt(ctx, encodeEvent(id), 0) })
	}
}

// vdsmSPM is VDSM's SPM side, with its lost requests: lose is the chance in a hundred.
type vdsmSPM struct {
	inbox, outbox blockdev.Device
	handler       Handler
	rng           *rand.Rand
	lose          int

	turn chan struct{} // held by who uses out; a channel, because it is held during I/O
	out  []byte
	wg   sync.WaitGroup
}

func (v *vdsmSPM) run(ctx context.Context) {
	n := simPages * pageSize
	v.out, v.turn = make([]byte, n), make(chan struct{}, 1)
	defer v.wg.Wait()
	for ioDo(func(ctx context.Context) error { return v.outbox.WriteAt(ctx, v.out, 0) }) != nil {
		if !pause(ctx, time.Second) {
			return
		}
	}
	last, in := make([]byte, n), make([]byte, n)
	var event UUID
	for ctx.Err() == nil {
		if ioDo(func(ctx context.Context) error { return v.inbox.ReadAt(ctx, in, 0) }) == nil {
			v.scan(ctx, last, in)
			copy(last, in)
		}
		head := make([]byte, 512)
		for range 4 {
			if !pause(ctx, 500*time.Millisecond) {
				return
			}
			err := ioDo(func(ctx context.Context) error { return v.inbox.ReadAt(ctx, head, 0) })
			if id := UUID(head[4:20]); err == nil && id != event {
				event = id
				break
			}
		}
	}
}

func (v *vdsmSPM) scan(ctx context.Context, last, in []byte) {
	clean := false
	for h := range simPages {
		p, checked := pageOf(in, h), false
		for i := range slotCount {
			b := slotOf(p, i)
			if b[0] == 0 {
				continue
			}
			if !checked && (verifyPage(p) != nil || checksum(p) == 0) {
				clear(p)
				break
			}
			checked = true
			if stateOf(b) == Clean {
				v.turn <- struct{}{}
				putClean(slotOf(pageOf(v.out, h), i))
				<-v.turn
				clean = true
			} else if !bytes.Equal(b, slotOf(pageOf(last, h), i)) {
				v.take(ctx, h, i, b)
			}
		}
	}
	if clean {
		v.turn <- struct{}{}
		defer func() { <-v.turn }()
		_ = ioDo(func(ctx context.Context) error { return v.outbox.WriteAt(ctx, v.out, 0) })
	}
}

func (v *vdsmSPM) take(ctx context.Context, h, i int, b []byte) {
	m, err := DecodeMessage(b)
	if err != nil || v.rng.IntN(100) < v.lose {
		return
	}
	v.wg.Go(func() {
		r := m
		if v.handler.Extend(ctx, Request{Message: m, Host: h, Slot: i}) != nil {
			r.SizeMiB = 0
		}
		e := r.Encode()
		v.turn <- struct{}{}
		defer func() { <-v.turn }()
		copy(slotOf(pageOf(v.out, h), i), e[:])
		_ = ioDo(func(ctx context.Context) error { return v.outbox.WriteAt(ctx, pageOf(v.out, h), int64(h)*pageSize) })
	})
}
