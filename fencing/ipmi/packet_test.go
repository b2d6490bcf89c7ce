package ipmi

import (
	"bytes"
	"errors"
	"testing"

	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"
)

// testKeys are those of a session of suite 3 or 17.
func testKeys(id int) *keys {
	return &keys{suite: suites[id], k1: bytes.Repeat([]byte{1}, 20), k2: bytes.Repeat([]byte{2}, 20)}
}

func TestPacket_roundTrip(t *testing.T) {
	t.Parallel()
	for id := range suites {
		for n := range 40 {
			p := packet{session: 0xa1b2c3d4, seq: 77, payload: bytes.Repeat([]byte{byte(n)}, n)}
			b, err := p.encode(testKeys(id))
			if err != nil {
				t.Fatal(err)
			}
			got, err := decode(b, testKeys(id))
			if err != nil || !got.protected || got.session != p.session || got.seq != p.seq || !bytes.Equal(got.payload, p.payload) {
				t.Fatalf("suite %d, %d bytes: %+v, %v", id, n, got, err)
			}
			if _, err := decode(b, testKeys(20-id)); err == nil {
				t.Fatal("opened with the keys of another suite")
			}
			if _, err := decode(b, nil); err == nil {
				t.Fatal("a protected packet was taken before the session")
			}
		}
	}
	p := packet{kind: types.PayloadTypeRAKPMessage2, payload: []byte("hello")}
	b, err := p.encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decode(b, nil); err != nil || got.kind != p.kind || string(got.payload) != "hello" {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	cmd := types.CommandGetChassisStatus
	if code, data, err := answer(saysOff(5), cmd, 5); err != nil || code != 0 || len(data) != 3 {
		t.Fatalf("%d, %x, %v", code, data, err)
	}
	if _, _, err := answer(saysOff(5), cmd, 6); err == nil {
		t.Error("the answer to another request")
	}
	if _, _, err := answer(saysOff(5), types.CommandChassisControl, 5); err == nil {
		t.Error("the answer to another command")
	}
	for i := range saysOff(5) {
		b := saysOff(5)
		b[i] ^= 0x40
		if _, _, err := answer(b, cmd, 5); err == nil {
			t.Errorf("byte %d changed, and nobody saw it", i)
		}
	}
	// Our own request, reflected.
	if _, _, err := answer(message(cmd, 5, nil), cmd, 5); err == nil {
		t.Error("took its own request")
	}
}

// No bytes may make the decoder panic, and with keys nothing but what they signed may come through.
func FuzzDecode(f *testing.F) {
	for id := range suites {
		b, err := packet{session: 1, seq: 2, payload: saysOff(1)}.encode(testKeys(id))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, _ := packet{kind: types.PayloadTypeRAKPMessage2, payload: make([]byte, 60)}.encode(nil)
	f.Add(b)
	f.Add([]byte{6, 0, 0xff, 7, 6, 0xc0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decode(b, nil); err == nil {
			_, _, _ = answer(p.payload, types.CommandGetChassisStatus, 1)
		}
		for id := range suites {
			p, err := decode(b, testKeys(id))
			if err != nil {
				continue
			}
			if !p.protected || p.session != 1 || p.seq != 2 || !bytes.Equal(p.payload, saysOff(1)) {
				t.Fatalf("took a packet that nobody signed: %+v", p)
			}
		}
	})
}

// The decoders of the library that meet bytes from the network before anything is authenticated.
func FuzzLogin(f *testing.F) {
	f.Add(make([]byte, 36), byte(17))
	f.Add(make([]byte, 72), byte(3))
	f.Fuzz(func(_ *testing.T, b []byte, id byte) {
		s, ok := suites[int(id)]
		if !ok {
			return
		}
		unpackLogin(b, s)
	})
}

// unpackLogin runs all decoders of the login on b.
func unpackLogin(b []byte, s suite) {
	_ = (&rmcpplus.OpenSessionResponse{}).Unpack(b)
	_ = (&rmcpplus.RAKPMessage2{AuthAlg: s.auth}).Unpack(b)
	_ = (&rmcpplus.RAKPMessage4{AuthAlg: s.auth}).Unpack(b)
	_ = (&chassis.GetChassisStatusResponse{}).Unpack(b)
}

// A session takes one answer once, and no other packet, even if the BMC itself has signed it.
func TestSession_accept(t *testing.T) {
	t.Parallel()
	cmd := types.CommandGetChassisStatus
	sign := func(p packet) []byte {
		b, err := p.encode(testKeys(3))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := packet{session: 7, seq: 5, payload: saysOff(9)}
	other := func(change func(*packet)) []byte {
		p := good
		change(&p)
		return sign(p)
	}
	s := &session{keys: testKeys(3), ours: 7, request: 9, seen: 4}
	for name, b := range map[string][]byte{
		"another session": other(func(p *packet) { p.session = 8 }),
		"older":           other(func(p *packet) { p.seq = 4 }),
		"without number":  other(func(p *packet) { p.seq = 0 }),
		"another kind":    other(func(p *packet) { p.kind = types.PayloadTypeSOL }),
		"another request": other(func(p *packet) { p.payload = saysOff(8) }),
		"a request":       other(func(p *packet) { p.payload = message(cmd, 9, nil) }),
		"no message":      other(func(p *packet) { p.payload = nil }),
	} {
		var drop errIgnored
		if _, _, err := s.accept(b, cmd); !errors.As(err, &drop) || s.seen != 4 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if code, data, err := s.accept(sign(good), cmd); err != nil || code != 0 || len(data) != 3 {
		t.Errorf("%d, %x, %v", code, data, err)
	}
	if _, _, err := s.accept(sign(good), cmd); err == nil {
		t.Error("taken twice")
	}
}
