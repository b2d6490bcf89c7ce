package keeper

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pageMagic   = 0x6b65657031 // "keep1"
	pageVersion = 2
	pageBytes   = 16 << 10

	slotWords      = 8
	lockspaceBase  = 64
	lockspaceSlots = 16
	resourceBase   = lockspaceBase + lockspaceSlots*slotWords
	resourceSlots  = 128

	wordSeq   = 0
	wordState = 1
	// lockspace slots
	wordExpiry       = 2
	wordLsGeneration = 3
	wordJoin         = 4 // which join of this keeper's life it is: slots are used again, generations come again
	// resource slots
	wordVersion    = 2
	wordGeneration = 3
	wordLockspace  = 4
	wordName       = 5

	stateHeld   = 1
	stateShared = 2 // resource slots only
)

// errTorn says that a slot is in the middle of a change for too long: its writer died there.
var errTorn = errors.New("keeper's shared page is in the middle of a change")

// page is the shared page. There is one writer per slot at a time, but for setExpiry; readers may be anywhere.
type page struct {
	words []uint64
}

// newPageFile makes the file behind a page.
func newPageFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("holdfast-keeper", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, pageBytes); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("sizing the shared page: %w", err)
	}
	return os.NewFile(uintptr(fd), "keeper-page"), nil
}

// mapPage maps f, for writing in the keeper and for reading in the agent.
func mapPage(f *os.File, writable bool) (*page, error) {
	prot := unix.PROT_READ
	if writable {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, pageBytes, prot, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the shared page: %w", err)
	}
	p := &page{words: unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), pageBytes/8)}
	// Guards may outlive the client, so the mapping stays as long as anybody can look at it.
	runtime.AddCleanup(p, func(m []byte) { _ = unix.Munmap(m) }, mem)
	if writable {
		atomic.StoreUint64(&p.words[1], pageVersion)
		atomic.StoreUint64(&p.words[0], pageMagic)
	}
	return p, nil
}

// slot is the words of one slot.
func (p *page) slot(base, i int) []uint64 {
	at := base + i*slotWords
	return p.words[at : at+slotWords : at+slotWords]
}

// update changes a slot under its sequence. Values are those of words 1, 2, ...
func update(s []uint64, values ...uint64) {
	atomic.AddUint64(&s[wordSeq], 1)
	for i, v := range values {
		atomic.StoreUint64(&s[1+i], v)
	}
	atomic.AddUint64(&s[wordSeq], 1)
}

// setExpiry moves a lockspace's expiry. It is one word, so it needs no sequence: a keeper that is stopped in here leaves
// no reader waiting, and a drop by another goroutine at the same time stays a drop. It does not allocate.
func (p *page) setExpiry(i int, expiry time.Duration) {
	atomic.StoreUint64(&p.slot(lockspaceBase, i)[wordExpiry], uint64(expiry))
}

// holdLockspace publishes a joined lockspace.
func (p *page) holdLockspace(i int, expiry time.Duration, generation, join uint64) {
	update(p.slot(lockspaceBase, i), stateHeld, uint64(expiry), generation, join)
}

// dropLockspace takes a lockspace and with it all its leases away from the readers.
func (p *page) dropLockspace(i int) { update(p.slot(lockspaceBase, i), 0, 0, 0, 0) }

// holdResource publishes a lease.
func (p *page) holdResource(i int, state, version, generation uint64, lockspace int, name uint64) {
	update(p.slot(resourceBase, i), state, version, generation, uint64(lockspace), name)
}

// dropResource takes a lease away from the readers.
func (p *page) dropResource(i int) { update(p.slot(resourceBase, i), 0, 0, 0, 0, 0) }

// read copies a slot consistently.
func read(s []uint64) (out [slotWords]uint64, err error) {
	for range 1000 {
		before := atomic.LoadUint64(&s[wordSeq])
		if before&1 != 0 {
			continue
		}
		for i := 1; i < slotWords; i++ {
			out[i] = atomic.LoadUint64(&s[i])
		}
		if atomic.LoadUint64(&s[wordSeq]) == before {
			return out, nil
		}
	}
	return out, errTorn
}
