package ipmi

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestDevice(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		bmc     []types.CipherSuiteID
		ciphers []int
		level   string
		used    string
	}{
		{"suite 17", []types.CipherSuiteID{3, 17}, []int{17, 3}, "operator", "cipher suite 17"},
		{"suite 3 alone", []types.CipherSuiteID{3}, []int{17, 3}, "operator", "cipher suite 3"},
		{"suite 17 alone", []types.CipherSuiteID{17}, []int{3, 17}, "administrator", "cipher suite 17"},
		{"suite 3 chosen", []types.CipherSuiteID{3, 17}, []int{3}, "operator", "cipher suite 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			port, chassis := startBMC(t, tt.bmc...)
			dev := device(t, port, func(c *Config) { c.Ciphers, c.Privilege = tt.ciphers, tt.level })
			m, err := fencing.NewMachine("h1", []fencing.Member{{Name: "bmc", Device: dev}}, fencing.DefaultTiming())
			if err != nil {
				t.Fatal(err)
			}
			ctx := testutil.Deadline(t)
			r, err := m.Off(ctx)
			ev, ok := r.Evidence()
			if err != nil || !ok || r.Skipped || !strings.Contains(ev.Detail, tt.used) {
				t.Fatalf("%v, %s", err, r)
			}
			if r, err := m.Off(ctx); err != nil || !r.Skipped {
				t.Fatalf("already off: %v, %s", err, r)
			}
			if _, err := m.On(ctx); err != nil {
				t.Fatal(err)
			}
			if err := dev.Reset(ctx); err != nil {
				t.Fatal(err)
			}
			chassis.mu.Lock()
			defer chassis.mu.Unlock()
			if chassis.resets != 1 {
				t.Errorf("%d resets", chassis.resets)
			}
		})
	}
}

func TestDevice_refused(t *testing.T) {
	t.Parallel()
	port, _ := startBMC(t, 3)
	tests := []struct {
		name   string
		change func(*Config)
		err    error
	}{
		{"wrong secret", func(c *Config) { c.Secret = fencing.NewSecret("wrong") }, fencing.ErrAuth},
		{"no such user", func(c *Config) { c.User = "nobody" }, fencing.ErrAuth},
		{"privilege too low", func(c *Config) { c.User = "reader" }, fencing.ErrAuth},
		{"cipher suite", func(c *Config) { c.Ciphers = []int{17} }, fencing.ErrRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			st, err := device(t, port, tt.change).Status(testutil.Deadline(t))
			if st != fencing.Unknown || !errors.Is(err, tt.err) || strings.Contains(err.Error(), testSecret) {
				t.Fatalf("%s, %v", st, err)
			}
		})
	}
}

// A BMC that is dead with its host answers nothing. That is no off.
func TestDevice_silent(t *testing.T) {
	t.Parallel()
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	d := device(t, portOf(t, mute.LocalAddr()), nil)
	d.waits, d.shortWaits = quickWaits, quickWaits[:1]
	if st, err := d.Status(testutil.Deadline(t)); st != fencing.Unknown || !errors.Is(err, fencing.ErrUnreachable) {
		t.Fatalf("%s, %v", st, err)
	}
	d.waits = []time.Duration{time.Hour}
	d.shortWaits = d.waits
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if st, err := fencing.Bounded(d, fencing.Limits{Status: 50 * time.Millisecond, Order: time.Second}).Status(t.Context()); st != fencing.Unknown || !errors.Is(err, fencing.ErrTimeout) {
		t.Fatalf("%s, %v", st, err)
	}
}

func TestDevice_nobodyThere(t *testing.T) {
	t.Parallel()
	// The kernel tells at once that nobody listens, and each cipher suite is tried no longer than that.
	if err := device(t, testutil.FreePort(t), nil).Off(testutil.Deadline(t)); !errors.Is(err, fencing.ErrUnreachable) {
		t.Fatal(err)
	}
}

// Lost packets are sent again, each in turn.
func TestDevice_lostPackets(t *testing.T) {
	t.Parallel()
	port, _ := startBMC(t, 3)
	seen := map[types.PayloadType]int{}
	r := startRelay(t, port, func(b []byte) [][]byte {
		kind, _ := kindOf(b)
		if seen[kind]++; seen[kind] == 1 && kind != types.PayloadTypeRAKPMessage4 {
			return nil
		}
		return [][]byte{b}
	})
	d := device(t, r.port, func(c *Config) { c.Ciphers = []int{3} })
	d.waits = []time.Duration{200 * time.Millisecond, 10 * time.Second, 20 * time.Second}
	if st, err := d.Status(testutil.Deadline(t)); st != fencing.On || err != nil {
		t.Fatalf("%s, %v", st, err)
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"address":      func(c *Config) { c.Address = "" },
		"path":         func(c *Config) { c.Address = "a/b" },
		"port":         func(c *Config) { c.Port = 0 },
		"user":         func(c *Config) { c.User = strings.Repeat("u", 17) },
		"secret":       func(c *Config) { c.Secret = fencing.NewSecret(strings.Repeat("s", 21)) },
		"no secret":    func(c *Config) { c.Secret = fencing.Secret{} },
		"cipher 0":     func(c *Config) { c.Ciphers = []int{0} },
		"no integrity": func(c *Config) { c.Ciphers = []int{17, 1} },
		"no cipher":    func(c *Config) { c.Ciphers = nil },
		"privilege":    func(c *Config) { c.Privilege = "user" },
	} {
		c := Default()
		c.Address, c.User, c.Secret = "bmc", "u", fencing.NewSecret("s3cret")
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := New(c); !errors.Is(err, fencing.ErrConfig) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
