package ipmi

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// saysOff is the response "the power is off" to a chassis status with this sequence number.
func saysOff(seq byte) []byte {
	b := []byte{addrConsole, byte(types.NetFnChassisRequest+1) << 2}
	b = append(b, checksum(b), addrBMC, seq<<2, types.CommandGetChassisStatus.ID, 0, 0, 0, 0)
	return append(b, checksum(b[3:]))
}

// forgeries are ways to say "off" without knowing the secret; each makes datagrams out of a genuine reply of the session.
var forgeries = map[string]func(genuine []byte, earlier [][]byte) [][]byte{
	"IPMI 1.5 without a session": func([]byte, [][]byte) [][]byte {
		return eachSeq(func(msg []byte) []byte {
			b := append([]byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0}, byte(len(msg)))
			return append(b, msg...)
		})
	},
	"not protected": func(g []byte, _ [][]byte) [][]byte {
		return eachSeq(func(msg []byte) []byte { return plainPacket(g, 0, msg) })
	},
	"claims to be authenticated": func(g []byte, _ [][]byte) [][]byte {
		return eachSeq(func(msg []byte) []byte {
			return append(plainPacket(g, flagAuthenticated, msg), append([]byte{0, nextHeader}, make([]byte, 12)...)...)
		})
	},
	"claims to be protected": func(g []byte, _ [][]byte) [][]byte {
		return eachSeq(func(msg []byte) []byte {
			return append(plainPacket(g, flagAuthenticated|flagEncrypted, msg), append([]byte{0, nextHeader}, make([]byte, 12)...)...)
		})
	},
	"changed":        func(g []byte, _ [][]byte) [][]byte { return flipEach(g, headerLen) },
	"changed header": func(g []byte, _ [][]byte) [][]byte { return flipEach(g[:headerLen], 4, g[headerLen:]...) },
	"cut": func(g []byte, _ [][]byte) [][]byte {
		var out [][]byte
		for n := range g {
			out = append(out, g[:n])
		}
		return out
	},
	"repeated": func(_ []byte, earlier [][]byte) [][]byte { return earlier },
	"noise":    func([]byte, [][]byte) [][]byte { return [][]byte{nil, {6}, make([]byte, 2000)} },
}

// eachSeq makes a datagram for every sequence number that the request may have.
func eachSeq(wrap func(msg []byte) []byte) [][]byte {
	var out [][]byte
	for seq := range byte(64) {
		out = append(out, wrap(saysOff(seq)))
	}
	return out
}

// plainPacket is one of the genuine packet's session, much newer than it, with another payload.
func plainPacket(genuine []byte, flags byte, payload []byte) []byte {
	b := append([]byte(nil), genuine[:headerLen]...)
	b[5] = flags
	binary.LittleEndian.PutUint32(b[10:], 1000)
	binary.LittleEndian.PutUint16(b[14:], uint16(len(payload)))
	return append(b, payload...)
}

// flipEach changes one bit in every byte from the given one on.
func flipEach(b []byte, from int, rest ...byte) [][]byte {
	var out [][]byte
	for i := from; i < len(b); i++ {
		c := append(append([]byte(nil), b...), rest...)
		c[i] ^= 1
		out = append(out, c)
	}
	return out
}

// attack puts forged datagrams before every protected reply, and drops the genuine ones from number keep on.
func attack(forge func([]byte, [][]byte) [][]byte, keep int) func([]byte) [][]byte {
	var earlier [][]byte
	return func(reply []byte) [][]byte {
		if _, protected := kindOf(reply); !protected {
			return [][]byte{reply}
		}
		out := append([][]byte{}, forge(reply, earlier)...)
		if len(earlier) >= keep {
			return out
		}
		earlier = append(earlier, reply) // repeated is what came through: a late answer is a genuine one
		return append(out, reply)
	}
}

// The machine is on. Whatever the attacker sends, nobody must be told that it is off.
func TestDevice_forgedAnswers(t *testing.T) {
	t.Parallel()
	for name, forge := range forgeries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port, _ := startBMC(t, 3)
			r := startRelay(t, port, attack(forge, 1000))
			d := device(t, r.port, func(c *Config) { c.Ciphers = []int{3} })
			if st, err := d.Status(testutil.Deadline(t)); st != fencing.On || err != nil {
				t.Errorf("with the genuine answer: %s, %v", st, err)
			}
			// The answer to the request for a privilege gets through, that to the status does not.
			r = startRelay(t, port, attack(forge, 1))
			d = device(t, r.port, func(c *Config) { c.Ciphers = []int{3} })
			d.waits = []time.Duration{200 * time.Millisecond, time.Second}
			if st, err := d.Status(testutil.Deadline(t)); st != fencing.Unknown || err == nil {
				t.Errorf("without it: %s, %v", st, err)
			}
		})
	}
}

// The attack is a real one: a client that does not check, which the library's own is at this version, is told that the
// machine is off. When this fails after an upgrade, the library checks now, and our own exchange may be worth another thought.
func TestForgery_fools(t *testing.T) {
	t.Parallel()
	port, _ := startBMC(t, 3)
	r := startRelay(t, port, attack(forgeries["not protected"], 1000))
	c, err := client.NewClient("127.0.0.1", r.port, testUser, testSecret)
	if err != nil {
		t.Fatal(err)
	}
	ctx := testutil.Deadline(t)
	c.WithCipherSuiteID(3).WithTimeout(20 * time.Second)
	// Its login fetches a challenge first, so the forged answers come to each of its commands; only the status matters.
	r.mu.Lock()
	hook := r.hook
	r.hook = func(b []byte) [][]byte { return [][]byte{b} }
	r.mu.Unlock()
	if err := c.Connect20(ctx); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.hook = hook
	r.mu.Unlock()
	res, err := c.GetChassisStatus(ctx)
	if err != nil || res.PowerIsOn {
		t.Errorf("the library's client was not fooled: %+v, %v", res, err)
	}
	_ = c.Close(ctx)
}

// changes to the login, each of which must end it.
func TestDevice_forgedLogin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		kind types.PayloadType
		at   int // the payload's byte that is changed
		err  error
	}{
		{"other integrity algorithm", types.PayloadTypeRmcpOpenSessionResponse, 24, fencing.ErrRefused},
		{"other encryption", types.PayloadTypeRmcpOpenSessionResponse, 32, fencing.ErrRefused},
		{"other authentication", types.PayloadTypeRmcpOpenSessionResponse, 16, fencing.ErrRefused},
		{"BMC's random number", types.PayloadTypeRAKPMessage2, 8, fencing.ErrAuth},
		{"BMC's proof", types.PayloadTypeRAKPMessage2, 45, fencing.ErrAuth},
		{"BMC's last proof", types.PayloadTypeRAKPMessage4, 10, nil},
		{"another session", types.PayloadTypeRAKPMessage4, 5, nil},
		{"another tag", types.PayloadTypeRAKPMessage2, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			port, _ := startBMC(t, 3)
			changed := false
			r := startRelay(t, port, func(b []byte) [][]byte {
				if kind, _ := kindOf(b); kind == tt.kind && len(b) > headerLen+tt.at {
					b[headerLen+tt.at] ^= 3
					changed = true
				}
				return [][]byte{b}
			})
			d := device(t, r.port, func(c *Config) { c.Ciphers = []int{3} })
			d.waits = []time.Duration{3 * time.Second}
			st, err := d.Status(testutil.Deadline(t))
			if st != fencing.Unknown || err == nil || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("%s, %v", st, err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if !changed {
				t.Error("nothing was changed, so nothing was tested")
			}
		})
	}
}
