package lun

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// disk is the file, and the record of how it came to be what it is.
type disk struct {
	f       *os.File
	now     func() time.Duration
	failed  func(error)
	stripes stripes
	cache   cache

	recording sync.Mutex // guards all below: numbers and lines come in one order
	log       *history.Log[history.Entry]
	seq       int
}

// record numbers an entry and writes it down. Whoever changed the file still holds the stripes that he changed.
func (d *disk) record(e history.Entry) {
	d.recording.Lock()
	defer d.recording.Unlock()
	d.seq++
	e.Seq = d.seq
	d.log.Add(e)
}

// read gives n bytes.
func (d *disk) read(off, n int64) ([]byte, error) {
	defer d.stripes.share(off, n)()
	p := make([]byte, n)
	if _, err := d.f.ReadAt(p, off); err != nil {
		return nil, d.broken("reading", err)
	}
	return p, nil
}

// landing is how a mutation lands.
type landing struct {
	e        history.Entry // Torn set: only so many bytes land
	data     []byte        // of a write
	dense    bool          // zeroes take space
	volatile *Path         // it stays in the cache of this path; nil: it is durable at once
	told     bool          // a reply follows
}

// land changes the file and records that, as one step towards everything that overlaps.
func (d *disk) land(m landing) error {
	e := m.e
	n := e.Len
	if e.Torn > 0 {
		n = e.Torn
	}
	if e.Kind != history.Flush {
		defer d.stripes.own(e.Off, n)()
	}
	err := d.change(m, n)
	now := d.now()
	if err == nil {
		e.Landed = now
	}
	e.Failed = e.Failed || err != nil
	if m.told {
		e.Told = now
	}
	d.record(e)
	return err
}

// change changes the file; caller owns the stripes.
func (d *disk) change(m landing, n int64) error {
	if m.e.Kind == history.Flush {
		d.cache.flush(m.e.Came)
		return nil
	}
	if err := d.cache.write(d, m.volatile, m.e.Off, n); err != nil {
		return d.broken("reading", err)
	}
	var err error
	switch {
	case m.e.Kind == history.Write:
		_, err = d.f.WriteAt(m.data[:n], m.e.Off)
	case m.dense:
		err = d.zero(m.e.Off, n)
	default:
		err = unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, m.e.Off, n)
	}
	if err != nil {
		return d.broken("writing", err)
	}
	return nil
}

// zero writes zeroes that take space, by the file system's own means where it has any.
func (d *disk) zero(off, n int64) error {
	err := unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = d.f.WriteAt(make([]byte, n), off)
	}
	return err
}

// broken is a fault that nobody injected.
func (d *disk) broken(doing string, err error) error {
	err = fmt.Errorf("%s the LUN's file: %w", doing, err)
	d.failed(err)
	return err
}
