package lun

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// cache knows which sectors were answered but never flushed, and what they were before. Everybody reads the new bytes; a
// power loss brings back the old ones, of any choice of sectors, because a cache writes back in whatever order it likes.
type cache struct {
	mu      sync.Mutex // guards sectors
	sectors map[int64]unflushed
}

// unflushed is one sector whose last durable contents are not those in the file.
type unflushed struct {
	p   *Path // who wrote it last
	old [Sector]byte
	at  time.Duration // of the first write since then
}

// maxCached is the length of the longest mutation that the cache holds back; longer ones are durable at once.
const maxCached = 1 << 20

// write prepares for a mutation, whose stripes the caller owns. With a path, its sectors become unflushed.
func (c *cache) write(d *disk, p *Path, off, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p == nil || n > maxCached {
		c.durable(off, n)
		return nil
	}
	old := make([]byte, n)
	if _, err := d.f.ReadAt(old, off); err != nil {
		return err
	}
	if c.sectors == nil {
		c.sectors = map[int64]unflushed{}
	}
	for at := int64(0); at < n; at += Sector {
		if u, known := c.sectors[off+at]; known && u.p == p {
			continue
		}
		// What another path wrote is taken to be durable now: a path must not lose another's writes.
		c.sectors[off+at] = unflushed{p: p, old: [Sector]byte(old[at:]), at: d.now()}
	}
	return nil
}

// durable forgets the sectors of a range; caller holds mu.
func (c *cache) durable(off, n int64) {
	if int64(len(c.sectors)) < n/Sector {
		for at := range c.sectors {
			if at >= off && at < off+n {
				delete(c.sectors, at)
			}
		}
		return
	}
	for at := off; at < off+n; at += Sector {
		delete(c.sectors, at)
	}
}

// flush makes durable what landed before a flush came.
func (c *cache) flush(came time.Duration) {
	c.forget(func(u unflushed) bool { return u.at <= came })
}

func (c *cache) forget(which func(unflushed) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, u := range c.sectors {
		if which(u) {
			delete(c.sectors, at)
		}
	}
}

// of lists the unflushed sectors of a path, in their order on the LUN so that a seed decides the same for the same set.
func (c *cache) of(p *Path) []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []int64
	for at, u := range c.sectors {
		if u.p == p {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, cmp.Compare)
	return all
}

// take removes a sector if it is still a path's.
func (c *cache) take(at int64, p *Path) (unflushed, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, ok := c.sectors[at]
	if !ok || u.p != p {
		return u, false
	}
	delete(c.sectors, at)
	return u, true
}
