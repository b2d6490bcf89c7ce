package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// memPage is the unit in which a Mem takes memory. Pages never written read as zeroes and cost nothing.
const memPage = 64 << 10

// Mem is a Device in memory for tests. It is sparse, so that a LUN of terabytes costs what was written to it, and
// Clone is cheap, so that a crash test can look at thousands of states. No call blocks or starts a goroutine.
type Mem struct {
	name       string
	size       int64
	sectorSize int

	mu     sync.Mutex // guards everything below
	pages  map[int64]*memData
	owner  *memOwner // pages with another owner are shared with a clone and copied before a write
	closed bool
	ro     bool
}

type memOwner struct{ _ byte }

type memData struct {
	owner *memOwner
	bytes [memPage]byte
}

// NewMem returns a zeroed device of size bytes, a multiple of sectorSize (512 or 4096); anything else panics, for it
// is a constant in a test.
func NewMem(size int64, sectorSize int) *Mem {
	if !validSector(sectorSize) || size <= 0 || size%int64(sectorSize) != 0 {
		panic(fmt.Sprintf("blockdev.NewMem(%d, %d): no such device", size, sectorSize))
	}
	return &Mem{name: "mem", size: size, sectorSize: sectorSize, pages: map[int64]*memData{}, owner: new(memOwner)}
}

func validSector(n int) bool { return n == 512 || n == 4096 }

// Rename sets the name that Name returns, to tell several apart. Call it before use.
func (m *Mem) Rename(name string) *Mem { m.name = name; return m }

// Name is "mem", or what Rename was given.
func (m *Mem) Name() string { return m.name }

// Size is the size in bytes.
func (m *Mem) Size() int64 { return m.size }

// SectorSize is 512 or 4096.
func (m *Mem) SectorSize() int { return m.sectorSize }

// Pending is always 0.
func (m *Mem) Pending() int { return 0 }

// SetReadOnly makes mutations fail with ErrReadOnly, or succeed again.
func (m *Mem) SetReadOnly(ro bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ro = ro
}

// ReadAt implements Device.
func (m *Mem) ReadAt(ctx context.Context, p []byte, off int64) error {
	return m.do(ctx, opRead, off, int64(len(p)), func() { m.copyOut(p, off) })
}

// WriteAt implements Device.
func (m *Mem) WriteAt(ctx context.Context, p []byte, off int64) error {
	return m.do(ctx, opWrite, off, int64(len(p)), func() { m.copyIn(p, off) })
}

// Flush implements Device.
func (m *Mem) Flush(ctx context.Context) error { return m.do(ctx, opFlush, 0, 0, func() {}) }

// WriteZeroes implements Device.
func (m *Mem) WriteZeroes(ctx context.Context, off, n int64) error {
	return m.do(ctx, opZero, off, n, func() { m.zero(off, n) })
}

// Discard implements Device. The bytes read as zeroes afterwards.
func (m *Mem) Discard(ctx context.Context, off, n int64) error {
	return m.do(ctx, opDiscard, off, n, func() { m.zero(off, n) })
}

// Close makes every later call fail with ErrGone. The contents stay for Bytes and Clone.
func (m *Mem) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// do checks a call and runs f under the lock.
func (m *Mem) do(ctx context.Context, op string, off, n int64, f func()) error {
	if err := checkCall(ctx, m, off, n); err != nil {
		return opError(m, op, off, n, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return opError(m, op, off, n, ErrGone)
	}
	if changes(op) && m.ro {
		return opError(m, op, off, n, ErrReadOnly)
	}
	if changes(op) {
		if err := SubmitCheck(ctx); err != nil {
			return opError(m, op, off, n, err)
		}
	}
	f()
	return nil
}

// copyOut reads; caller holds mu.
func (m *Mem) copyOut(p []byte, off int64) {
	for len(p) > 0 {
		at := off % memPage
		n := min(int64(len(p)), memPage-at)
		if page := m.pages[off/memPage]; page != nil {
			copy(p[:n], page.bytes[at:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+n
	}
}

// copyIn writes; caller holds mu.
func (m *Mem) copyIn(p []byte, off int64) {
	for len(p) > 0 {
		n := copy(m.own(off / memPage)[off%memPage:], p)
		p, off = p[n:], off+int64(n)
	}
}

// zero clears a range and drops pages that it covers fully; caller holds mu.
func (m *Mem) zero(off, n int64) {
	for n > 0 {
		i, at := off/memPage, off%memPage
		l := min(n, memPage-at)
		if l == memPage {
			delete(m.pages, i)
		} else if m.pages[i] != nil {
			clear(m.own(i)[at : at+l])
		}
		off, n = off+l, n-l
	}
}

// own returns page i for writing, made or copied first when it must be; caller holds mu.
func (m *Mem) own(i int64) []byte {
	page := m.pages[i]
	switch {
	case page == nil:
		page = &memData{owner: m.owner}
	case page.owner != m.owner:
		page = &memData{owner: m.owner, bytes: page.bytes}
	}
	m.pages[i] = page
	return page.bytes[:]
}

// Clone returns an independent copy with the same contents. Pages are shared until one side writes to them.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Mem{name: m.name, size: m.size, sectorSize: m.sectorSize, owner: new(memOwner)}
	c.pages = make(map[int64]*memData, len(m.pages))
	for i, page := range m.pages {
		c.pages[i] = page
	}
	m.owner = new(memOwner)
	return c
}

// Bytes returns a copy of the n bytes at off, with no regard to sectors.
func (m *Mem) Bytes(off, n int64) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := make([]byte, min(n, m.size-off))
	m.copyOut(p, off)
	return p
}

// SetBytes overwrites the bytes at off, with no regard to sectors, leases or Close: corruption for a test.
func (m *Mem) SetBytes(off int64, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copyIn(p[:min(int64(len(p)), m.size-off)], off)
}

// SetZero clears the n bytes at off as SetBytes does.
func (m *Mem) SetZero(off, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.zero(off, min(n, m.size-off))
}

// WriteFile saves the contents as a sparse file, for programs that judge them.
func (m *Mem) WriteFile(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("save %s: %w", m.name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, page := range m.pages {
		n := min(memPage, m.size-i*memPage)
		if _, err := f.WriteAt(page.bytes[:n], i*memPage); err != nil {
			return fmt.Errorf("save %s: %w", m.name, err)
		}
	}
	return f.Truncate(m.size)
}

// ReadMem returns a Mem with the contents of a file, which is rounded up to whole sectors with zeroes.
func ReadMem(path string, sectorSize int) (*Mem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	ss := int64(sectorSize)
	m := NewMem(max(1, (st.Size()+ss-1)/ss)*ss, sectorSize).Rename(path)
	buf := make([]byte, memPage)
	for off := int64(0); ; {
		n, err := io.ReadFull(f, buf)
		if !allZero(buf[:n]) {
			m.copyIn(buf[:n], off)
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return m, nil
		}
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", path, err)
		}
	}
}

// allZero tells whether p has no byte but 0.
func allZero(p []byte) bool {
	for len(p) >= 8 {
		if p[0]|p[1]|p[2]|p[3]|p[4]|p[5]|p[6]|p[7] != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
