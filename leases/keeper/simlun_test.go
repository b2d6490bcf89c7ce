package keeper

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

const (
	simPage      = 16 << 10
	simSector    = 512
	simResources = 3
	simData      = (1 + simResources) * mib // where the data of the resources lies, one page each
	simLUNSize   = simData + simResources*simPage
	simMaxHosts  = 11 // host ids that resources have room for
)

// simImage is a freshly made LUN that all runs start from.
type simImage [][]byte

// newSimImage makes a lockspace and its resources.
func newSimImage() (simImage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mem := blockdev.NewMem(simLUNSize, simSector)
	if err := leases.InitLockspace(ctx, mem, 0, leases.Geometry512, "space", time.Second); err != nil {
		return nil, err
	}
	for r := range simResources {
		if err := leases.InitResource(ctx, mem, resourceAt(r), leases.Geometry512, "space", resourceName(r), simMaxHosts); err != nil {
			return nil, err
		}
	}
	var img simImage
	for off := int64(0); off < simLUNSize; off += simPage {
		img = append(img, mem.Bytes(off, simPage))
	}
	return img, nil
}

func resourceAt(r int) int64     { return int64(1+r) * mib }
func resourceName(r int) string  { return fmt.Sprintf("res-%d", r) }
func dataAt(r int) int64         { return simData + int64(r)*simPage }
func resourceOf(off int64) int   { return int(off/mib) - 1 }
func dataResource(off int64) int { return int((off - simData) / simPage) }

// simLUN is the shared disk. A sector changes at once; more than one do so one after the other, see simIO.
type simLUN struct {
	mu    sync.Mutex // guards pages
	img   simImage
	pages [][]byte // nil: as in the image
}

func newSimLUN(img simImage) *simLUN { return &simLUN{img: img, pages: make([][]byte, len(img))} }

func (l *simLUN) read(p []byte, off int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 {
		page := l.pages[off/simPage]
		if page == nil {
			page = l.img[off/simPage]
		}
		n := copy(p, page[off%simPage:])
		p, off = p[n:], off+int64(n)
	}
}

func (l *simLUN) write(p []byte, off int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 {
		i := off / simPage
		if l.pages[i] == nil {
			l.pages[i] = append([]byte(nil), l.img[i]...)
		}
		n := copy(l.pages[i][off%simPage:], p)
		p, off = p[n:], off+int64(n)
	}
}
