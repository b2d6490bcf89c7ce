package lun

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// The NBD protocol as far as a server needs it, all numbers big endian; written from the protocol's text, not shared with the
// product's client, so that the two check each other:
//
//	greeting    u64 "NBDMAGIC", u64 "IHAVEOPT", u16 handshake flags        client: u32 flags
//	option      u64 "IHAVEOPT", u32 option, u32 length, data
//	opt. reply  u64 0x3e889045565a9, u32 option, u32 type, u32 length, data
//	request     u32 0x25609513, u16 flags, u16 type, u64 handle, u64 offset, u32 length, data of a write
//	reply       u32 0x67446698, u32 error, u64 handle, data of a successful read
const (
	magic       = 0x4e42444d41474943
	optMagic    = 0x49484156454f5054
	optReply    = 0x3e889045565a9
	reqMagic    = 0x25609513
	simpleMagic = 0x67446698

	fixedNewstyle = 1 << 0
	noZeroes      = 1 << 1

	optExportName = 1
	optAbort      = 2
	optInfo       = 6
	optGo         = 7

	repAck     = 1
	repInfo    = 3
	repUnsup   = 1<<31 + 1
	repInvalid = 1<<31 + 3
	repUnknown = 1<<31 + 6

	infoExport    = 0
	infoBlockSize = 3

	// has flags, flush, FUA, trim, write zeroes, multi-conn: the cache is one for all, see the package comment.
	exportFlags = 1<<0 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<8

	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6

	flagFUA    = 1 << 0
	flagNoHole = 1 << 1

	errIO      = uint32(unix.EIO)
	errInval   = uint32(unix.EINVAL)
	errNoSpace = uint32(unix.ENOSPC)
)

const (
	requestSize = 28
	maxOption   = 64 << 10
	maxOptions  = 64
	preferred   = 4096
	maxRequest  = 32 << 20
)

// errProtocol says that the client breaks the protocol; its connection ends.
var errProtocol = errors.New("nbd: the client breaks the protocol")

// errLeft says that the client ended the negotiation.
var errLeft = errors.New("nbd: the client left")

// handshake agrees with a client on the export, up to the start of transmission.
func handshake(r io.Reader, w *bufio.Writer, size int64) error {
	b := binary.BigEndian.AppendUint64(nil, magic)
	b = binary.BigEndian.AppendUint64(b, optMagic)
	if err := say(w, binary.BigEndian.AppendUint16(b, fixedNewstyle|noZeroes)); err != nil {
		return err
	}
	var client [4]byte
	if _, err := io.ReadFull(r, client[:]); err != nil {
		return err
	}
	flags := binary.BigEndian.Uint32(client[:])
	if flags&^(fixedNewstyle|noZeroes) != 0 {
		return fmt.Errorf("%w: flags %#x", errProtocol, flags)
	}
	for range maxOptions {
		opt, data, err := readOption(r)
		if err != nil {
			return err
		}
		if done, err := answerOption(w, opt, data, size, flags&noZeroes != 0); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: more than %d options", errProtocol, maxOptions)
}

// say writes and flushes.
func say(w *bufio.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.Flush()
}

func readOption(r io.Reader) (opt uint32, data []byte, err error) {
	var b [16]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(b[12:])
	if binary.BigEndian.Uint64(b[:]) != optMagic || n > maxOption {
		return 0, nil, fmt.Errorf("%w: option %x", errProtocol, b)
	}
	data = make([]byte, n)
	_, err = io.ReadFull(r, data)
	return binary.BigEndian.Uint32(b[8:]), data, err
}

// answerOption tells whether transmission begins.
func answerOption(w *bufio.Writer, opt uint32, data []byte, size int64, short bool) (done bool, err error) {
	switch opt {
	case optExportName:
		if !known(data) {
			return false, fmt.Errorf("%w: no export %q", errProtocol, data) // this option has no other way to say no
		}
		b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, uint64(size)), exportFlags)
		if !short {
			b = append(b, make([]byte, 124)...)
		}
		return true, say(w, b)
	case optAbort:
		_ = say(w, option(opt, repAck, nil)) // the client may have gone already
		return false, errLeft
	case optInfo, optGo:
		kind, ok := askedFor(data)
		if !ok {
			return false, say(w, option(opt, kind, []byte("the LUN's name is "+ExportName)))
		}
		return opt == optGo, say(w, describe(opt, size))
	}
	return false, say(w, option(opt, repUnsup, nil))
}

// option is one reply to an option.
func option(opt, kind uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, optReply)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, opt), kind)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
}

// askedFor checks what an OPT_GO or OPT_INFO asks for; kind is the refusal.
func askedFor(data []byte) (kind uint32, ok bool) {
	if len(data) < 6 {
		return repInvalid, false
	}
	n := int64(binary.BigEndian.Uint32(data))
	if n > int64(len(data))-6 {
		return repInvalid, false
	}
	wants := int(binary.BigEndian.Uint16(data[4+n:]))
	if len(data) != int(n)+6+2*wants {
		return repInvalid, false
	}
	return repUnknown, known(data[4 : 4+n])
}

func known(name []byte) bool { return len(name) == 0 || string(name) == ExportName }

// describe says what the LUN is; the block sizes are told unasked, as the protocol lets a server do.
func describe(opt uint32, size int64) []byte {
	export := binary.BigEndian.AppendUint16(nil, infoExport)
	export = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(export, uint64(size)), exportFlags)
	blocks := binary.BigEndian.AppendUint16(nil, infoBlockSize)
	for _, n := range []uint32{Sector, preferred, maxRequest} {
		blocks = binary.BigEndian.AppendUint32(blocks, n)
	}
	b := append(option(opt, repInfo, export), option(opt, repInfo, blocks)...)
	return append(b, option(opt, repAck, nil)...)
}

// readRequest reads a request with its data. It makes no room for lengths that are not allowed.
func readRequest(r io.Reader) (*request, error) {
	var b [requestSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	q := &request{flags: binary.BigEndian.Uint16(b[4:]), cmd: binary.BigEndian.Uint16(b[6:]), handle: binary.BigEndian.Uint64(b[8:]),
		off: int64(binary.BigEndian.Uint64(b[16:])), n: int64(binary.BigEndian.Uint32(b[24:]))}
	if binary.BigEndian.Uint32(b[:]) != reqMagic {
		return nil, fmt.Errorf("%w: request %x", errProtocol, b)
	}
	switch q.cmd {
	case cmdRead, cmdWrite:
		if q.n > maxRequest {
			return nil, fmt.Errorf("%w: %d bytes in one request", errProtocol, q.n)
		}
	case cmdFlush, cmdTrim, cmdWriteZeroes, cmdDisc:
	default:
		return nil, fmt.Errorf("%w: command %d", errProtocol, q.cmd) // its length is not known
	}
	if q.cmd == cmdFlush {
		q.off, q.n = 0, 0
	}
	return q, nil
}
