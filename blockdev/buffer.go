package blockdev

import (
	"fmt"
	"math/bits"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	minBuffer = 4 << 10 // also the alignment that direct I/O of every sector size accepts
	maxBuffer = 4 << 20 // longer calls go in pieces of this size
	// keepBuffers is how many bytes of idle buffers a device keeps; more go back to the kernel.
	keepBuffers = 8 << 20
)

// bufferPool hands out page-aligned memory outside the Go heap, in powers of two. A buffer belongs to one I/O until
// that I/O has surely come back; an abandoned one returns here only when the kernel lets go of it.
type bufferPool struct {
	mu     sync.Mutex // guards the fields below
	idle   [11][][]byte
	bytes  int64 // in idle
	closed bool
}

// class is the index of the smallest size that holds n bytes.
func class(n int) int { return bits.Len(uint(max(n, minBuffer)-1) >> 12) }

// get returns a buffer of length n <= maxBuffer with arbitrary contents.
func (p *bufferPool) get(n int) ([]byte, error) {
	c := class(n)
	p.mu.Lock()
	if l := len(p.idle[c]); l > 0 {
		b := p.idle[c][l-1]
		p.idle[c] = p.idle[c][:l-1]
		p.bytes -= int64(cap(b))
		p.mu.Unlock()
		return b[:n], nil
	}
	p.mu.Unlock()
	b, err := unix.Mmap(-1, 0, minBuffer<<c, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("memory for direct I/O: %w", err)
	}
	return b[:n], nil
}

// put takes back a buffer that no I/O uses.
func (p *bufferPool) put(b []byte) {
	if b == nil {
		return
	}
	b = b[:cap(b)]
	p.mu.Lock()
	keep := !p.closed && p.bytes+int64(cap(b)) <= keepBuffers
	if keep {
		p.idle[class(cap(b))] = append(p.idle[class(cap(b))], b)
		p.bytes += int64(cap(b))
	}
	p.mu.Unlock()
	if !keep {
		unmap(b)
	}
}

// close gives all idle memory back; buffers that are still out follow when they are put.
func (p *bufferPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c, list := range p.idle {
		for _, b := range list {
			unmap(b)
		}
		p.idle[c] = nil
	}
	p.bytes = 0
}

// unmap cannot fail for a mapping that get made; going on with unknown memory mapped is worse than stopping.
func unmap(b []byte) {
	if err := unix.Munmap(b[:cap(b)]); err != nil {
		panic("munmap of an I/O buffer: " + err.Error())
	}
}
