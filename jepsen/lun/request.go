package lun

import (
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// request is one request that came in whole.
type request struct {
	c      *conn
	cmd    uint16
	flags  uint16
	handle uint64
	off, n int64
	data   []byte // of a write
	sum    uint64 // of data
	came   time.Duration
	cuts   int // the path's, when it came
}

// reply answers a request.
type reply struct {
	r     *request
	errno uint32
	data  []byte // of a read
}

// kinds are the commands that leave an entry.
var kinds = map[uint16]history.Mutation{
	cmdWrite: history.Write, cmdTrim: history.Trim, cmdWriteZeroes: history.Zero, cmdFlush: history.Flush,
}

// entry is what is known when the request has come.
func (r *request) entry() history.Entry {
	e := history.Entry{Host: r.c.p.host, Kind: kinds[r.cmd], Off: r.off, Len: r.n, Sum: r.sum, Came: r.came}
	switch {
	case r.cmd != cmdWrite:
	case r.n <= maxRecorded:
		e.Data = r.data
	case r.off < packedBelow && r.n <= maxPacked:
		e.Packed = history.Pack(r.data)
	}
	return e
}

// Of longer writes those are kept too, deflated, that lie where a volume group has its texts: who owns which extent, and since when,
// is said nowhere else.
const (
	packedBelow = 128 << 20
	maxPacked   = 1 << 20
)

// mutates tells a request that leaves an entry from a read.
func (r *request) mutates() bool { return r.cmd != cmdRead }

// check refuses what no device could do.
func (r *request) check(size int64) uint32 {
	switch {
	case r.cmd == cmdFlush:
		return 0
	case r.n <= 0 || r.off < 0 || r.off%Sector != 0 || r.n%Sector != 0:
		return errInval
	case r.off > size-r.n && r.cmd == cmdRead:
		return errInval
	case r.off > size-r.n:
		return errNoSpace
	}
	return 0
}

// maxRecorded is the length of the longest write whose bytes are recorded.
const maxRecorded = 4096

// checksum is FNV-1a.
func checksum(p []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range p {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}
