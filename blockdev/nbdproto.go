package blockdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// The NBD protocol as far as a client needs it, all numbers big endian:
//
//	greeting    u64 "NBDMAGIC", u64 "IHAVEOPT", u16 handshake flags        client: u32 flags
//	option      u64 "IHAVEOPT", u32 option, u32 length, data
//	opt. reply  u64 0x3e889045565a9, u32 option, u32 type, u32 length, data
//	request     u32 0x25609513, u16 flags, u16 type, u64 handle, u64 offset, u32 length, data of a write
//	reply       u32 0x67446698, u32 error, u64 handle, data of a successful read
//
// Only simple replies occur, because structured ones are never asked for.
const (
	nbdMagic       = 0x4e42444d41474943
	nbdOptMagic    = 0x49484156454f5054
	nbdReplyMagic  = 0x3e889045565a9
	nbdReqMagic    = 0x25609513
	nbdSimpleMagic = 0x67446698

	nbdFixedNewstyle = 1 << 0
	nbdNoZeroes      = 1 << 1

	nbdOptAbort = 2
	nbdOptGo    = 7

	nbdRepAck      = 1
	nbdRepInfo     = 3
	nbdRepErrBit   = 1 << 31
	nbdErrUnsup    = nbdRepErrBit + 1
	nbdErrPolicy   = nbdRepErrBit + 2
	nbdErrTLSReqd  = nbdRepErrBit + 5
	nbdErrUnknown  = nbdRepErrBit + 6
	nbdErrShutdown = nbdRepErrBit + 7

	nbdInfoExport    = 0
	nbdInfoBlockSize = 3

	nbdHasFlags        = 1 << 0
	nbdReadOnly        = 1 << 1
	nbdSendFlush       = 1 << 2
	nbdSendTrim        = 1 << 5
	nbdSendWriteZeroes = 1 << 6

	nbdCmdRead        = 0
	nbdCmdWrite       = 1
	nbdCmdDisc        = 2
	nbdCmdFlush       = 3
	nbdCmdTrim        = 4
	nbdCmdWriteZeroes = 6
)

// Bounds on what a server may send; names and error texts have at most 4096 bytes in the protocol.
const (
	nbdMaxOptReply   = 64 << 10
	nbdMaxOptReplies = 64
	nbdMaxName       = 4096
	nbdRequestSize   = 28
	nbdReplySize     = 16
	nbdDefaultMax    = 32 << 20 // longest request when the server names no limit
)

// errNBD says that the server broke the protocol; the connection is of no use any more.
var errNBD = errors.New("nbd: the server breaks the protocol")

// nbdExport is what the server says about the export.
type nbdExport struct {
	size     int64
	flags    uint16
	minBlock uint32 // 0 when not told
	maxBlock uint32
}

// nbdHandshake agrees with a server on an export, from the greeting to the start of transmission.
func nbdHandshake(rw io.ReadWriter, name string) (nbdExport, error) {
	if len(name) > nbdMaxName {
		return nbdExport{}, fmt.Errorf("export name of %d bytes: at most %d", len(name), nbdMaxName)
	}
	if err := nbdGreet(rw); err != nil {
		return nbdExport{}, err
	}
	if _, err := rw.Write(nbdGoOption(name)); err != nil {
		return nbdExport{}, err
	}
	return nbdGoReplies(rw)
}

// nbdGreet reads the greeting and answers it.
func nbdGreet(rw io.ReadWriter) error {
	var b [18]byte
	if _, err := io.ReadFull(rw, b[:]); err != nil {
		return fmt.Errorf("nbd greeting: %w", err)
	}
	if binary.BigEndian.Uint64(b[:]) != nbdMagic || binary.BigEndian.Uint64(b[8:]) != nbdOptMagic {
		return fmt.Errorf("%w: greeting %x is not that of a newstyle server", errNBD, b[:16])
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if flags&nbdFixedNewstyle == 0 {
		return fmt.Errorf("%w: nbd server without fixed newstyle negotiation", ErrNotSupported)
	}
	_, err := rw.Write(binary.BigEndian.AppendUint32(nil, uint32(flags&(nbdFixedNewstyle|nbdNoZeroes))))
	return err
}

// nbdGoOption is NBD_OPT_GO for an export, asking for its block sizes.
func nbdGoOption(name string) []byte {
	b := binary.BigEndian.AppendUint64(nil, nbdOptMagic)
	b = binary.BigEndian.AppendUint32(b, nbdOptGo)
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(name)+2+2))
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, 1)
	return binary.BigEndian.AppendUint16(b, nbdInfoBlockSize)
}

// nbdGoReplies reads the answers to NBD_OPT_GO until the acknowledgement.
func nbdGoReplies(r io.Reader) (nbdExport, error) {
	var e nbdExport
	known := false
	for range nbdMaxOptReplies {
		kind, data, err := nbdOptReply(r)
		switch {
		case err != nil:
			return e, err
		case kind == nbdRepAck && known:
			return e, e.check()
		case kind == nbdRepInfo && len(data) >= 2:
			isExport, err := e.info(data)
			if err != nil {
				return e, err
			}
			known = known || isExport
		case kind&nbdRepErrBit != 0:
			return e, nbdOptError(kind, data)
		default:
			return e, fmt.Errorf("%w: option reply %d with %d bytes", errNBD, kind, len(data))
		}
	}
	return e, fmt.Errorf("%w: no end of option replies", errNBD)
}

// nbdOptReply reads one reply to NBD_OPT_GO.
func nbdOptReply(r io.Reader) (kind uint32, data []byte, err error) {
	var b [20]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, nil, fmt.Errorf("nbd option reply: %w", err)
	}
	opt, n := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[16:])
	if binary.BigEndian.Uint64(b[:]) != nbdReplyMagic || opt != nbdOptGo || n > nbdMaxOptReply {
		return 0, nil, fmt.Errorf("%w: option reply %x", errNBD, b)
	}
	data = make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, fmt.Errorf("nbd option reply: %w", err)
	}
	return binary.BigEndian.Uint32(b[12:]), data, nil
}

// info takes in one NBD_REP_INFO and tells whether it was the one about size and flags.
func (e *nbdExport) info(data []byte) (isExport bool, err error) {
	switch kind := binary.BigEndian.Uint16(data); {
	case kind == nbdInfoExport && len(data) == 12:
		size := binary.BigEndian.Uint64(data[2:])
		if size > 1<<62 {
			return false, fmt.Errorf("%w: export of %d bytes", errNBD, size)
		}
		e.size, e.flags = int64(size), binary.BigEndian.Uint16(data[10:])
		return true, nil
	case kind == nbdInfoBlockSize && len(data) == 14:
		e.minBlock, e.maxBlock = binary.BigEndian.Uint32(data[2:]), binary.BigEndian.Uint32(data[10:])
		if e.minBlock == 0 {
			return false, fmt.Errorf("%w: block size 0", errNBD)
		}
		return false, nil
	case kind == nbdInfoExport, kind == nbdInfoBlockSize:
		return false, fmt.Errorf("%w: export info %d with %d bytes", errNBD, kind, len(data))
	}
	return false, nil // name, description and whatever comes later
}

// check refuses values that cannot be.
func (e *nbdExport) check() error {
	if e.flags&nbdHasFlags == 0 {
		return fmt.Errorf("%w: export flags %#x", errNBD, e.flags)
	}
	if e.minBlock != 0 && (e.minBlock&(e.minBlock-1) != 0 || e.maxBlock < max(e.minBlock, 4096)) {
		return fmt.Errorf("%w: block sizes %d to %d", errNBD, e.minBlock, e.maxBlock)
	}
	if e.maxBlock == 0 || e.maxBlock > nbdDefaultMax {
		e.maxBlock = nbdDefaultMax
	}
	return nil
}

// nbdOptError is a refusal of the export, with the server's own words.
func nbdOptError(kind uint32, data []byte) error {
	text := string(bytes.ToValidUTF8(data[:min(len(data), 200)], []byte("?")))
	switch kind {
	case nbdErrUnknown, nbdErrShutdown:
		return fmt.Errorf("%w: no such nbd export: %q", ErrGone, text)
	case nbdErrUnsup:
		return fmt.Errorf("%w: nbd server without NBD_OPT_GO: %q", ErrNotSupported, text)
	case nbdErrTLSReqd:
		return fmt.Errorf("%w: nbd server wants TLS: %q", ErrNotSupported, text)
	case nbdErrPolicy:
		return fmt.Errorf("nbd server refuses this client: %q", text)
	}
	return fmt.Errorf("nbd server refuses the export: error %#x: %q", kind, text)
}

// nbdRequest encodes the header of a request into b.
func nbdRequest(b *[nbdRequestSize]byte, cmd uint16, handle uint64, off, n int64) {
	binary.BigEndian.PutUint32(b[0:], nbdReqMagic)
	binary.BigEndian.PutUint16(b[4:], 0)
	binary.BigEndian.PutUint16(b[6:], cmd)
	binary.BigEndian.PutUint64(b[8:], handle)
	binary.BigEndian.PutUint64(b[16:], uint64(off))
	binary.BigEndian.PutUint32(b[24:], uint32(n))
}

// nbdReply reads the header of a reply.
func nbdReply(r io.Reader, b *[nbdReplySize]byte) (handle uint64, errno uint32, err error) {
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, 0, err
	}
	if magic := binary.BigEndian.Uint32(b[:]); magic != nbdSimpleMagic {
		return 0, 0, fmt.Errorf("%w: reply with magic %#x", errNBD, magic)
	}
	return binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[4:]), nil
}

// nbdErrno translates the error of a reply; the protocol borrows Linux's numbers.
func nbdErrno(n uint32) error {
	switch errno := unix.Errno(n); errno {
	case unix.EPERM:
		return fmt.Errorf("%w: nbd server: %w", ErrReadOnly, errno)
	case unix.EOPNOTSUPP:
		return fmt.Errorf("%w: nbd server: %w", ErrNotSupported, errno)
	case unix.ESHUTDOWN:
		return fmt.Errorf("%w: nbd server: %w", ErrGone, errno)
	case unix.EIO, unix.ENOMEM, unix.EINVAL, unix.ENOSPC, unix.EOVERFLOW:
		return fmt.Errorf("nbd server: %w", errno)
	}
	return fmt.Errorf("nbd server: error %d: %w", n, unix.EIO) // other numbers mean nothing across systems
}
