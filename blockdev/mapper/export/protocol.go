package export

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The NBD protocol as far as this server speaks it, all numbers big endian:
//
//	greeting    u64 "NBDMAGIC", u64 "IHAVEOPT", u16 handshake flags        client: u32 flags
//	option      u64 "IHAVEOPT", u32 option, u32 length, data
//	opt. reply  u64 0x3e889045565a9, u32 option, u32 type, u32 length, data
//	request     u32 0x25609513, u16 flags, u16 type, u64 cookie, u64 offset, u32 length, data of a write
//	simple      u32 0x67446698, u32 error, u64 cookie, data of a successful read
//	chunk       u32 0x668e33ef, u16 flags, u16 type, u64 cookie, u32 length, payload
const (
	magicGreeting = 0x4e42444d41474943
	magicOption   = 0x49484156454f5054
	magicOptReply = 0x3e889045565a9
	magicRequest  = 0x25609513
	magicSimple   = 0x67446698
	magicChunk    = 0x668e33ef

	greetFixedNewstyle = 1 << 0
	greetNoZeroes      = 1 << 1

	optExportName  = 1
	optAbort       = 2
	optList        = 3
	optInfo        = 6
	optGo          = 7
	optStructured  = 8
	optListContext = 9
	optSetContext  = 10

	repAck     = 1
	repServer  = 2
	repInfo    = 3
	repContext = 4

	repErrUnsup   = 1<<31 + 1
	repErrInvalid = 1<<31 + 3
	repErrUnknown = 1<<31 + 6

	infoExport    = 0
	infoBlockSize = 3

	flagHasFlags    = 1 << 0
	flagReadOnly    = 1 << 1
	flagFlush       = 1 << 2
	flagFUA         = 1 << 3
	flagTrim        = 1 << 5
	flagWriteZeroes = 1 << 6
	flagDF          = 1 << 7
	flagMultiConn   = 1 << 8

	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdCache       = 5
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	reqFUA      = 1 << 0
	reqNoHole   = 1 << 1
	reqDF       = 1 << 2
	reqOne      = 1 << 3
	reqFastZero = 1 << 4

	chunkNone   = 0
	chunkData   = 1
	chunkHole   = 2
	chunkStatus = 5
	chunkError  = 1<<15 + 1
	chunkDone   = 1 << 0

	stateHole = 1 << 0

	contextName = "base:allocation"
	contextID   = 1
)

const (
	greetingSize = 18
	optionSize   = 16
	requestSize  = 28
	simpleSize   = 16
	chunkSize    = 20

	preferredBlock = 4096
	// maxRequest is the longest read or write that is served; clients are told.
	maxRequest = 4 << 20
	// maxPayload is the longest write whose data is read and thrown away, so that its client hears of its mistake.
	maxPayload = 32 << 20
)

// errProtocol says that the client breaks the protocol; its connection ends.
var errProtocol = errors.New("nbd: the client breaks the protocol")

// request is the header of a request.
type request struct {
	flags, cmd uint16
	cookie     uint64
	off        uint64
	n          uint32
}

func decodeRequest(b *[requestSize]byte) (request, error) {
	if magic := binary.BigEndian.Uint32(b[:]); magic != magicRequest {
		return request{}, fmt.Errorf("%w: request with magic %#x", errProtocol, magic)
	}
	return request{
		flags:  binary.BigEndian.Uint16(b[4:]),
		cmd:    binary.BigEndian.Uint16(b[6:]),
		cookie: binary.BigEndian.Uint64(b[8:]),
		off:    binary.BigEndian.Uint64(b[16:]),
		n:      binary.BigEndian.Uint32(b[24:]),
	}, nil
}

// within tells whether the request lies inside size bytes.
func (q request) within(size int64) bool {
	return q.off <= uint64(size) && uint64(q.n) <= uint64(size)-q.off
}

// appendSimple is a reply without structure; data follows it.
func appendSimple(b []byte, cookie uint64, errno uint32) []byte {
	b = binary.BigEndian.AppendUint32(b, magicSimple)
	b = binary.BigEndian.AppendUint32(b, errno)
	return binary.BigEndian.AppendUint64(b, cookie)
}

// appendChunk is the header of a chunk with a payload of n bytes.
func appendChunk(b []byte, cookie uint64, flags, kind uint16, n int) []byte {
	b = binary.BigEndian.AppendUint32(b, magicChunk)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, cookie)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// appendErrorChunk is the last chunk of a request that failed.
func appendErrorChunk(b []byte, cookie uint64, errno uint32) []byte {
	b = appendChunk(b, cookie, chunkDone, chunkError, 6)
	b = binary.BigEndian.AppendUint32(b, errno)
	return binary.BigEndian.AppendUint16(b, 0)
}

// appendHoleChunk says that n bytes at off read as zeroes.
func appendHoleChunk(b []byte, cookie uint64, flags uint16, off uint64, n uint32) []byte {
	b = appendChunk(b, cookie, flags, chunkHole, 12)
	b = binary.BigEndian.AppendUint64(b, off)
	return binary.BigEndian.AppendUint32(b, n)
}

// extent is a run of bytes of the same state.
type extent struct {
	n     uint32
	state uint32
}

// appendStatusChunk is the answer to a block status request.
func appendStatusChunk(b []byte, cookie uint64, list []extent) []byte {
	b = appendChunk(b, cookie, chunkDone, chunkStatus, 4+8*len(list))
	b = binary.BigEndian.AppendUint32(b, contextID)
	for _, e := range list {
		b = binary.BigEndian.AppendUint32(b, e.n)
		b = binary.BigEndian.AppendUint32(b, e.state)
	}
	return b
}
