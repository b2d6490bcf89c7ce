package export

import (
	"context"
	"fmt"
	"math/bits"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	minBuffer = 4 << 10
	// maxBuffers bounds the memory for data of requests, used and idle.
	maxBuffers = 8 << 20
	// maxPerConn bounds one connection's part of it, so that a client that takes no replies does not stop the others.
	maxPerConn = 6 << 20
)

// buffers hands out page-aligned memory outside the Go heap, in powers of two, and never more than limit bytes: who
// comes when all is out waits for its turn.
type buffers struct {
	limit int

	mu      sync.Mutex // guards the fields below
	idle    [11][][]byte
	mapped  int // bytes, out and idle
	out     int // bytes
	waiting []*bufferWait
	closed  bool
}

// bufferWait is somebody who waits for n bytes; ready is closed when they are counted as out.
type bufferWait struct {
	n     int
	ready chan struct{}
}

// bufferClass is the index of the smallest size that holds n bytes.
func bufferClass(n int) int { return bits.Len(uint(max(n, minBuffer)-1) >> 12) }

// bufferSize is how much memory a buffer of n bytes takes.
func bufferSize(n int) int { return minBuffer << bufferClass(n) }

// get returns n <= maxRequest bytes with arbitrary contents, or why the wait ended.
func (p *buffers) get(ctx context.Context, n int) ([]byte, error) {
	size := bufferSize(n)
	p.mu.Lock()
	if len(p.waiting) > 0 || p.out+size > p.limit {
		w := &bufferWait{n: size, ready: make(chan struct{})}
		p.waiting = append(p.waiting, w)
		p.mu.Unlock()
		if err := p.await(ctx, w); err != nil {
			return nil, err
		}
		p.mu.Lock()
	} else {
		p.out += size
	}
	b, err := p.take(size)
	p.mu.Unlock()
	if err != nil {
		p.release(size)
		return nil, err
	}
	return b[:n], nil
}

// await waits until w's bytes are counted for it.
func (p *buffers) await(ctx context.Context, w *bufferWait) error {
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	for i, other := range p.waiting {
		if other == w {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			p.wake() // the next one may ask for less
			p.mu.Unlock()
			return ctx.Err()
		}
	}
	p.mu.Unlock()
	p.release(w.n) // it was given in the last moment
	return ctx.Err()
}

// take finds or maps memory that is counted already; caller holds mu.
func (p *buffers) take(size int) ([]byte, error) {
	c := bufferClass(size)
	if l := len(p.idle[c]); l > 0 {
		b := p.idle[c][l-1]
		p.idle[c] = p.idle[c][:l-1]
		return b, nil
	}
	p.trim(p.limit - size)
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for a request: %w", err)
	}
	p.mapped += size
	return b, nil
}

// trim gives idle memory back until at most want bytes are mapped; caller holds mu.
func (p *buffers) trim(want int) {
	for c := range p.idle {
		for len(p.idle[c]) > 0 && p.mapped > want {
			l := len(p.idle[c]) - 1
			p.unmap(p.idle[c][l])
			p.idle[c] = p.idle[c][:l]
		}
	}
}

// unmap cannot fail for a mapping that take made; going on with unknown memory mapped is worse than stopping. Caller
// holds mu.
func (p *buffers) unmap(b []byte) {
	p.mapped -= cap(b)
	if err := unix.Munmap(b[:cap(b)]); err != nil {
		panic("munmap of a request's buffer: " + err.Error())
	}
}

// put takes back a buffer that nobody uses; nil is none.
func (p *buffers) put(b []byte) {
	if b == nil {
		return
	}
	b = b[:cap(b)]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out -= cap(b)
	if p.closed {
		p.unmap(b)
	} else {
		p.idle[bufferClass(cap(b))] = append(p.idle[bufferClass(cap(b))], b)
	}
	p.wake()
}

// release gives back bytes that were counted and never mapped.
func (p *buffers) release(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out -= n
	p.wake()
}

// wake serves those who wait, in their order; caller holds mu.
func (p *buffers) wake() {
	for len(p.waiting) > 0 && p.out+p.waiting[0].n <= p.limit {
		p.out += p.waiting[0].n
		close(p.waiting[0].ready)
		p.waiting = p.waiting[1:]
	}
}

// close gives the idle memory back; what is out follows when it is put.
func (p *buffers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.trim(0)
}
