package ipmi

import (
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/types"
)

// An RMCP+ packet, all numbers little-endian:
//
//	 0  4  RMCP: version 6, reserved, sequence 0xff (none), class 7 (IPMI)
//	 4  1  authentication type: 6, RMCP+
//	 5  1  payload type; 0x80: encrypted, 0x40: authenticated
//	 6  4  session of the receiver, 0 while there is none
//	10  4  sequence number, 0 while there is no session
//	14  2  bytes of payload
//	16  n  payload
//
// and when it is authenticated:
//
//	      bytes 0xff until the part from 4 to the code is a multiple of 4
//	   1  how many of these
//	   1  7
//	codeLen  authentication code of everything from 4 to here
const (
	rmcpLen   = 4
	headerLen = 16
	maxPacket = 1024 // the messages that are exchanged here have less than 200

	rmcpVersion = 6
	rmcpNoSeq   = 0xff
	rmcpClass   = 7
	authRMCP    = 6
	nextHeader  = 7

	flagEncrypted     = 0x80
	flagAuthenticated = 0x40
)

// packet is one datagram.
type packet struct {
	kind      types.PayloadType
	protected bool // encrypted and authenticated
	session   uint32
	seq       uint32
	payload   []byte
}

// encode makes the bytes of a packet; k is nil before there is a session.
func (p packet) encode(k *keys) ([]byte, error) {
	payload, kind := p.payload, byte(p.kind)
	if k != nil {
		sealed, err := k.encrypt(payload)
		if err != nil {
			return nil, err
		}
		payload, kind = sealed, kind|flagEncrypted|flagAuthenticated
	}
	b := []byte{rmcpVersion, 0, rmcpNoSeq, rmcpClass, authRMCP, kind}
	b = binary.LittleEndian.AppendUint32(b, p.session)
	b = binary.LittleEndian.AppendUint32(b, p.seq)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, payload...)
	if k == nil {
		return b, nil
	}
	pad := 0
	for ; (len(b)-rmcpLen+2)%4 != 0; pad++ {
		b = append(b, 0xff)
	}
	b = append(b, byte(pad), nextHeader)
	code, err := k.code(b[rmcpLen:])
	if err != nil {
		return nil, err
	}
	return append(b, code...), nil
}

// Why a datagram is dropped.
var (
	errShort       = errors.New("the packet is cut off")
	errNotRMCPPlus = errors.New("the packet is not RMCP+")
	errUnprotected = errors.New("the packet is not authenticated and encrypted, though the session is")
	errProtected   = errors.New("the packet is of a session that does not exist yet")
	errCode        = errors.New("the packet's authentication code is wrong")
)

// decode reads a datagram from the network; nothing in it is trusted. With keys it must be authenticated, by them, and encrypted;
// without it must not.
func decode(b []byte, k *keys) (packet, error) {
	if len(b) < headerLen {
		return packet{}, errShort
	}
	if b[0] != rmcpVersion || b[3] != rmcpClass || b[4] != authRMCP {
		return packet{}, errNotRMCPPlus
	}
	p := packet{
		kind:    types.PayloadType(b[5] &^ (flagEncrypted | flagAuthenticated)),
		session: binary.LittleEndian.Uint32(b[6:]),
		seq:     binary.LittleEndian.Uint32(b[10:]),
	}
	n := int(binary.LittleEndian.Uint16(b[14:]))
	if len(b) < headerLen+n {
		return packet{}, errShort
	}
	p.payload = b[headerLen : headerLen+n]
	protection := b[5] & (flagEncrypted | flagAuthenticated)
	switch {
	case k == nil && protection != 0:
		return packet{}, errProtected
	case k == nil:
		return p, nil
	case protection != flagEncrypted|flagAuthenticated:
		return packet{}, errUnprotected
	}
	return p.open(b, n, k)
}

// open checks and decrypts a protected packet.
func (p packet) open(b []byte, payloadLen int, k *keys) (packet, error) {
	end := len(b) - k.suite.codeLen
	if end < headerLen+payloadLen+2 {
		return packet{}, errShort
	}
	want, err := k.code(b[rmcpLen:end])
	if err != nil {
		return packet{}, err
	}
	if !hmac.Equal(want, b[end:]) {
		return packet{}, errCode
	}
	if pad := int(b[end-2]); b[end-1] != nextHeader || headerLen+payloadLen+pad+2 != end {
		return packet{}, errNotRMCPPlus
	}
	plain, err := k.decrypt(p.payload)
	if err != nil {
		return packet{}, err
	}
	p.payload, p.protected = plain, true
	return p, nil
}

// Addresses in an IPMI message: the BMC's, and that of software far away.
const (
	addrBMC     = 0x20
	addrConsole = 0x81
)

// message is an IPMI request:
//
//	0  1  BMC's address
//	1  1  network function << 2
//	2  1  checksum of 0-1
//	3  1  our address
//	4  1  sequence number << 2
//	5  1  command
//	6  n  data
//	   1  checksum of everything from 3
//
// A response is the same with the addresses exchanged, the network function plus one, and a completion code before the data.
func message(cmd types.Command, seq uint8, data []byte) []byte {
	b := []byte{addrBMC, byte(cmd.NetFn) << 2}
	b = append(b, checksum(b), addrConsole, seq<<2, cmd.ID)
	b = append(b, data...)
	return append(b, checksum(b[3:]))
}

var errNotAnswer = errors.New("the message is not the answer to our request")

// answer reads a response to the request that message made. The address that it is for is not looked at: some BMCs put their own.
func answer(b []byte, cmd types.Command, seq uint8) (code byte, data []byte, err error) {
	if len(b) < 8 {
		return 0, nil, errShort
	}
	last := len(b) - 1
	if checksum(b[:2]) != b[2] || checksum(b[3:last]) != b[last] {
		return 0, nil, fmt.Errorf("wrong checksum: %w", errNotAnswer)
	}
	if b[1]>>2 != byte(cmd.NetFn)+1 || b[4]>>2 != seq || b[5] != cmd.ID {
		return 0, nil, errNotAnswer
	}
	return b[6], b[7:last], nil
}

// checksum makes the sum of bytes and itself zero.
func checksum(b []byte) byte {
	var sum byte
	for _, x := range b {
		sum += x
	}
	return -sum
}
