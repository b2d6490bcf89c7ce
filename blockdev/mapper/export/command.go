package export

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Errors that are the client's own mistake.
const (
	errnoInval = uint32(unix.EINVAL)
	errnoSpace = uint32(unix.ENOSPC)
	errnoPerm  = uint32(unix.EPERM)
	errnoNoSup = uint32(unix.EOPNOTSUPP)
)

// allowedFlags are the flags of each command.
var allowedFlags = map[uint16]uint16{
	cmdRead: reqDF | reqFUA, cmdWrite: reqFUA, cmdFlush: reqFUA, cmdTrim: reqFUA, cmdCache: reqFUA,
	cmdWriteZeroes: reqFUA | reqNoHole | reqFastZero, cmdBlockStatus: reqOne | reqFUA,
}

// refuses is what speaks against a request before anything is done; 0 is nothing.
func (c *conn) refuses(q request) uint32 {
	allowed, known := allowedFlags[q.cmd]
	changes := q.cmd == cmdWrite || q.cmd == cmdTrim || q.cmd == cmdWriteZeroes
	switch {
	case !known || q.flags&^allowed != 0:
		return errnoInval
	case q.cmd == cmdBlockStatus && (!c.shake.allocation || q.n == 0):
		return errnoInval
	case q.flags&reqDF != 0 && !c.shake.structured:
		return errnoInval
	case changes && c.s.c.ReadOnly:
		return errnoPerm
	case q.cmd == cmdFlush:
		return 0
	case !q.within(c.s.c.MaxBytes) && (q.cmd == cmdWrite || q.cmd == cmdWriteZeroes):
		return errnoSpace
	case !q.within(c.s.c.MaxBytes), (q.cmd == cmdRead || q.cmd == cmdWrite) && q.n > maxRequest:
		return errnoInval
	case q.flags&reqFastZero != 0:
		return errnoNoSup // nothing is known about how fast a LUN zeroes
	}
	return 0
}

// carryOut does one request and answers it.
func (c *conn) carryOut(q request, buf []byte, errno uint32) {
	defer c.free(buf)
	if errno != 0 {
		c.sendErrno(q, errno)
		return
	}
	switch q.cmd {
	case cmdRead:
		c.read(q, buf)
	case cmdBlockStatus:
		c.send(appendStatusChunk(nil, q.cookie, c.s.v.extents(int64(q.off), int64(q.n), q.flags&reqOne != 0)))
	default:
		c.sendErrno(q, toErrno(c.change(q, buf)))
	}
}

// change does a request without data in its reply.
func (c *conn) change(q request, buf []byte) error {
	v, off, n, fua := c.s.v, int64(q.off), int64(q.n), q.flags&reqFUA != 0
	switch q.cmd {
	case cmdFlush:
		return v.flushFor(&c.flushes)
	case cmdCache: // there is no cache to fill
		return nil
	}
	if n == 0 {
		return v.durable(nil, fua)
	}
	switch q.cmd {
	case cmdWrite:
		return v.write(buf, off, fua)
	case cmdWriteZeroes:
		return v.zero(off, n, fua)
	}
	return v.trim(off, n, fua)
}

// sendErrno is a reply without data. Where chunks were agreed on, a read and a block status must fail in one.
func (c *conn) sendErrno(q request, errno uint32) {
	if errno != 0 && c.shake.structured && (q.cmd == cmdRead || q.cmd == cmdBlockStatus) {
		c.send(appendErrorChunk(nil, q.cookie, errno))
		return
	}
	c.send(appendSimple(nil, q.cookie, errno))
}

// read answers a read.
func (c *conn) read(q request, buf []byte) {
	stored, err := c.s.v.read(buf, int64(q.off))
	if err != nil {
		c.sendErrno(q, toErrno(err))
		return
	}
	if !c.shake.structured {
		clear(buf[stored:])
		c.send(appendSimple(nil, q.cookie, 0), buf)
		return
	}
	c.sendChunks(q, buf, stored)
}

// sendChunks sends the stored bytes as data and the rest as a hole, or all as data where the client wants one chunk.
func (c *conn) sendChunks(q request, buf []byte, stored int64) {
	hole := int64(len(buf)) - stored
	switch {
	case len(buf) == 0:
		c.send(appendChunk(nil, q.cookie, chunkDone, chunkNone, 0))
	case hole == 0 || stored > 0 && q.flags&reqDF != 0:
		clear(buf[stored:])
		c.send(dataHead(q, chunkDone, len(buf)), buf)
	case stored == 0:
		c.send(appendHoleChunk(nil, q.cookie, chunkDone, q.off, q.n))
	default:
		last := appendHoleChunk(nil, q.cookie, chunkDone, q.off+uint64(stored), uint32(hole))
		c.send(dataHead(q, 0, int(stored)), buf[:stored], last)
	}
}

// dataHead is what comes before n bytes of data at the start of the request.
func dataHead(q request, flags uint16, n int) []byte {
	b := appendChunk(make([]byte, 0, chunkSize+8), q.cookie, flags, chunkData, 8+n)
	return binary.BigEndian.AppendUint64(b, q.off)
}

// extents says which of n bytes at off have storage. What has none is a hole that is not said to be zero: an extension
// brings what lay on the device before, so nobody must rely on zeroes that he did not write.
func (v *volume) extents(off, n int64, one bool) []extent {
	stored := v.now.Load().stored(off, n)
	var list []extent
	if stored > 0 {
		list = append(list, extent{uint32(stored), 0})
	}
	if stored < n && (stored == 0 || !one) {
		list = append(list, extent{uint32(n - stored), stateHole})
	}
	return list
}
