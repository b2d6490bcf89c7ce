package ipmi

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"
	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/fencing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUser   = "fence"
	testSecret = "correct-horse"
)

// testWaits leave time for a machine that is busy with other tests; answers come at once in all but the silent cases.
var testWaits = []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second}

// quickWaits are for tests in which no answer is to come.
var quickWaits = []time.Duration{50 * time.Millisecond, 200 * time.Millisecond}

// testChassis is that of the mock, with a lock around what the tests look at.
type testChassis struct {
	*mock.Chassis
	mu     sync.Mutex // guards resets
	resets int
}

// ColdReset is what the BMC does for a hard reset.
func (c *testChassis) ColdReset(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resets++
	return nil
}

// hardware is the mock's, with our chassis.
type hardware struct {
	*mock.HAL
	chassis *testChassis
}

func (h hardware) Chassis() hal.ChassisHAL { return h.chassis }

// startBMC runs the reference BMC of go-ipmi, whose machine is on, and returns its port and its chassis.
func startBMC(t *testing.T, ciphers ...types.CipherSuiteID) (int, *testChassis) {
	t.Helper()
	h := hardware{mock.New(), &testChassis{Chassis: &mock.Chassis{On: true}}}
	b := bmc.New(bmc.DeviceInfo{DeviceID: 1, IPMIVersion: 0x20}, [16]byte{1, 2, 3}, h)
	for id, u := range map[uint8]struct {
		name  string
		level bmc.PrivilegeLevel
	}{2: {testUser, bmc.PrivilegeLevelAdministrator}, 3: {"reader", bmc.PrivilegeLevelUser}} {
		user, err := b.Users.Add(id, u.name)
		if err != nil {
			t.Fatal(err)
		}
		user.SetPassword([]byte(testSecret))
		user.Enabled = true
		user.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: u.level, Enabled: true}
	}
	conn, err := udp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server.NewServer(b, conn, server.WithCipherSuites(ciphers))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); _ = s.Close(); <-done })
	return portOf(t, conn.LocalAddr()), h.chassis
}

func portOf(t *testing.T, a net.Addr) int {
	t.Helper()
	u, ok := a.(*net.UDPAddr)
	if !ok {
		t.Fatalf("%v is no UDP address", a)
	}
	return u.Port
}

// device is one on loopback, with the test's login.
func device(t *testing.T, port int, change func(*Config)) *Device {
	t.Helper()
	c := Default()
	c.Address, c.Port, c.User, c.Secret = "127.0.0.1", port, testUser, fencing.NewSecret(testSecret)
	if change != nil {
		change(&c)
	}
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	d.waits, d.shortWaits = testWaits, testWaits[:1]
	return d
}

// relay stands between a client and a BMC, as somebody on the network could. Each reply goes through hook, which returns what
// the client gets.
type relay struct {
	mu   sync.Mutex // guards hook
	hook func(reply []byte) [][]byte
	port int
}

func startRelay(t *testing.T, bmcPort int, hook func(reply []byte) [][]byte) *relay {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: bmcPort})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{hook: hook, port: portOf(t, front.LocalAddr())}
	var client sync.Map // holds the address of the last client
	var wg sync.WaitGroup
	wg.Go(func() {
		for buf := make([]byte, 2048); ; {
			n, from, err := front.ReadFromUDP(buf)
			if err != nil {
				return
			}
			client.Store("", from)
			_, _ = back.Write(buf[:n])
		}
	})
	wg.Go(func() {
		for buf := make([]byte, 2048); ; {
			n, err := back.Read(buf)
			if err != nil {
				return
			}
			to, _ := client.Load("")
			addr, ok := to.(*net.UDPAddr)
			if !ok {
				continue
			}
			for _, b := range r.replies(append([]byte(nil), buf[:n]...)) {
				_, _ = front.WriteToUDP(b, addr)
			}
		}
	})
	t.Cleanup(func() { _ = front.Close(); _ = back.Close(); wg.Wait() })
	return r
}

func (r *relay) replies(reply []byte) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hook(reply)
}

// kindOf is the payload type of a packet, and whether it is protected.
func kindOf(b []byte) (types.PayloadType, bool) {
	if len(b) < headerLen {
		return 0xff, false
	}
	return types.PayloadType(b[5] & 0x3f), b[5]&(flagAuthenticated|flagEncrypted) != 0
}
