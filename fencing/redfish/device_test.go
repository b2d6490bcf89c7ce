package redfish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fencing/clusterlabs"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func machine(t *testing.T, d fencing.Device, polls int) *fencing.Machine {
	t.Helper()
	timing := fencing.Timing{First: 10 * time.Millisecond, Longest: 100 * time.Millisecond, Polls: polls, Unknowns: 1, OnOrders: 1, Pause: time.Millisecond}
	m, err := fencing.NewMachine("h1", []fencing.Member{{Name: "bmc", Device: d}}, timing)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// both are our device and fence_redfish, on the same BMC.
func both(t *testing.T, m *mock, secret string) map[string]fencing.Device {
	t.Helper()
	testutil.NeedTool(t, "fence_redfish")
	catalog, err := clusterlabs.NewCatalog(clusterlabs.DefaultDirs())
	if err != nil {
		t.Fatal(err)
	}
	exec, err := clusterlabs.New(catalog, clusterlabs.Config{
		Agent: "fence_redfish", Address: m.url.Hostname(), Port: m.port(t), User: testUser, Secret: fencing.NewSecret(secret),
		Parameters: map[string]string{"systems_uri": "/redfish/v1/Systems/1", "ssl_insecure": "1", "power_timeout": "5", "shell_timeout": "60", "login_timeout": "60"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if w, err := exec.Warnings(t.Context()); err != nil || len(w) > 0 {
		t.Fatalf("%v, %v", w, err)
	}
	limits := fencing.Limits{Status: 2 * time.Minute, Order: 2 * time.Minute}
	native := m.device(t, func(c *Config) { c.Secret = fencing.NewSecret(secret) })
	return map[string]fencing.Device{"native": fencing.Bounded(native, limits), "fence_redfish": fencing.Bounded(exec, limits)}
}

func TestBoth_restart(t *testing.T) {
	t.Parallel()
	bmc := startMock(t)
	for name, d := range both(t, bmc, testSecret) {
		m := machine(t, d, 50)
		bmc.set(func(m *mock) { m.resets = nil })
		r, err := m.Restart(t.Context())
		if err != nil || r.OffAt.IsZero() || bmc.did() != "ForceOff On" {
			t.Fatalf("%s: %v, %s: %s", name, err, bmc.did(), r)
		}
		if _, err := m.Off(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r, err := m.Off(t.Context()); err != nil || !r.Skipped {
			t.Fatalf("%s: already off: %v", name, err)
		}
		if _, err := m.On(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if h := m.Health(t.Context()); !h.Off {
			t.Fatalf("%s: %+v", name, h)
		}
	}
}

func TestBoth_fail(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*mock)
		secret string
	}{
		{"off that lies", func(m *mock) { m.liar = true }, testSecret},
		{"order refused", func(m *mock) { m.status = http.StatusBadRequest }, testSecret},
		{"wrong secret", func(*mock) {}, "not-the-secret"},
		{"garbage", func(m *mock) { m.raw["/redfish/v1/Systems/1"] = "<html>PowerState: Off</html>" }, testSecret},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bmc := startMock(t)
			bmc.set(tt.change)
			for name, d := range both(t, bmc, tt.secret) {
				r, err := machine(t, d, 3).Off(t.Context())
				if _, ok := r.Evidence(); ok || !errors.Is(err, fencing.ErrNotConfirmed) {
					t.Errorf("%s: evidence %v, %v", name, ok, err)
				}
				if strings.Contains(err.Error()+r.String(), tt.secret) {
					t.Errorf("%s tells the secret: %v", name, err)
				}
			}
		})
	}
}

func TestDevice_Status(t *testing.T) {
	t.Parallel()
	for power, want := range map[string]fencing.State{
		"On": fencing.On, "Off": fencing.Off, "PoweringOff": fencing.Unknown, "PoweringOn": fencing.Unknown,
		"Paused": fencing.Unknown, "": fencing.Unknown, "off": fencing.Unknown, "OFF ": fencing.Unknown,
	} {
		bmc := startMock(t)
		bmc.set(func(m *mock) { m.power = power })
		if st, err := bmc.device(t, nil).Status(testutil.Deadline(t)); st != want || err != nil {
			t.Errorf("%q: %s, %v", power, st, err)
		}
	}
}

func TestDevice_errors(t *testing.T) {
	t.Parallel()
	other := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host was asked for %s with login %q", r.URL, r.Header.Get("Authorization"))
	}))
	t.Cleanup(other.Close)
	tests := []struct {
		name   string
		change func(*mock)
		config func(*Config)
		err    error
		say    string
	}{
		{"wrong secret", nil, func(c *Config) { c.Secret = fencing.NewSecret("hunter2222") }, fencing.ErrAuth, "password ***"},
		{"wrong secret for a session", nil, func(c *Config) { c.Auth, c.Secret = AuthSession, fencing.NewSecret("hunter2222") }, fencing.ErrAuth, "password ***"},
		{"refused", func(m *mock) { m.status = 409 }, nil, fencing.ErrRefused, "the chassis is locked"},
		{"broken", func(m *mock) { m.status = 503 }, nil, fencing.ErrRefused, "HTTP 503"},
		{"redirect to another host", func(m *mock) { m.redirect = other.URL }, nil, fencing.ErrGarbage, "elsewhere"},
		{"link to another host", func(m *mock) { m.target = other.URL + "/x" }, nil, fencing.ErrGarbage, "does not lead"},
		{"link without a host", func(m *mock) { m.target = "//" + strings.TrimPrefix(other.URL, "https://") }, nil, fencing.ErrGarbage, "does not lead"},
		{"link out of the tree", func(m *mock) { m.target = "/redfish/../x" }, nil, fencing.ErrGarbage, "does not lead"},
		{"no such action", func(m *mock) { m.target = "" }, nil, fencing.ErrUnsupported, "no action"},
		{"not allowed", func(m *mock) { m.allowable = []string{"On", "GracefulShutdown"} }, nil, fencing.ErrUnsupported, "GracefulShutdown"},
		{"two systems", func(m *mock) { m.systems = []string{"1", "2"} }, nil, fencing.ErrConfig, "1, 2"},
		{"no system", func(m *mock) { m.systems = nil }, nil, fencing.ErrConfig, "0 systems"},
		{"not this system", nil, func(c *Config) { c.System = "9" }, fencing.ErrConfig, `no system "9", but 1`},
		{"no JSON", func(m *mock) { m.raw["/redfish/v1/Systems"] = "hello" }, nil, fencing.ErrGarbage, "reading the answer"},
		{"endless", func(m *mock) { m.raw["/redfish/v1"] = strings.Repeat(" ", maxBody+1) }, nil, fencing.ErrGarbage, "more than"},
		{"certificate of nobody", nil, func(c *Config) { c.CA = "" }, fencing.ErrForged, "not trusted"},
		{"another certificate", nil, func(c *Config) { c.CA, c.Fingerprint = "", strings.Repeat("ab", 32) }, fencing.ErrForged, "fingerprint"},
		{"nobody there", nil, func(c *Config) { c.Port = testutil.FreePort(t) }, fencing.ErrUnreachable, "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bmc := startMock(t)
			if tt.change != nil {
				bmc.set(tt.change)
			}
			err := bmc.device(t, tt.config).Off(testutil.Deadline(t))
			if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.say) || strings.Contains(err.Error(), "hunter2222") {
				t.Fatal(err)
			}
			bmc.set(func(m *mock) {
				if m.power != "On" {
					t.Error("it was switched off all the same")
				}
			})
		})
	}
}

func TestDevice_trust(t *testing.T) {
	t.Parallel()
	bmc := startMock(t)
	b, err := os.ReadFile(bmc.cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	sum := sha256.Sum256(block.Bytes)
	for name, change := range map[string]func(*Config){
		"authority":   func(*Config) {},
		"fingerprint": func(c *Config) { c.CA, c.Fingerprint = "", hex.EncodeToString(sum[:]) },
		"insecure":    func(c *Config) { c.CA, c.Insecure = "", true },
	} {
		if st, err := bmc.device(t, change).Status(testutil.Deadline(t)); st != fencing.On || err != nil {
			t.Errorf("%s: %s, %v", name, st, err)
		}
	}
}

func TestDevice_system(t *testing.T) {
	t.Parallel()
	bmc := startMock(t)
	bmc.set(func(m *mock) { m.systems = []string{"0", "1"} })
	for _, system := range []string{"1", "/redfish/v1/Systems/1"} {
		d := bmc.device(t, func(c *Config) { c.System = system })
		if st, err := d.Status(testutil.Deadline(t)); st != fencing.On || err != nil {
			t.Errorf("%s: %s, %v", system, st, err)
		}
	}
}

func TestDevice_session(t *testing.T) {
	t.Parallel()
	bmc := startMock(t)
	d := bmc.device(t, func(c *Config) { c.Auth = AuthSession })
	if err := d.Off(testutil.Deadline(t)); err != nil {
		t.Fatal(err)
	}
	bmc.set(func(m *mock) {
		if m.power != "Off" || m.sessions != 0 {
			t.Errorf("power %s, %d sessions left, %v", m.power, m.sessions, m.requests)
		}
	})
}

func TestDevice_allowable(t *testing.T) {
	t.Parallel()
	bmc := startMock(t)
	bmc.set(func(m *mock) { m.power, m.allowable = "Off", []string{"ForceOff", "ForceOn"} })
	d := bmc.device(t, nil)
	if err := d.On(testutil.Deadline(t)); err != nil || bmc.did() != "ForceOn" {
		t.Errorf("%v, %s", err, bmc.did())
	}
	if err := d.Check(testutil.Deadline(t)); err != nil {
		t.Error(err)
	}
	if err := d.Reset(testutil.Deadline(t)); !errors.Is(err, fencing.ErrUnsupported) {
		t.Error(err)
	}
	bmc.set(func(m *mock) { m.allowable = []string{"On"} })
	if err := d.Check(testutil.Deadline(t)); !errors.Is(err, fencing.ErrUnsupported) {
		t.Errorf("a machine that cannot be switched off is well: %v", err)
	}
}

// A BMC that takes the connection and says nothing.
func TestDevice_hangs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := Default()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP address")
	}
	c.Address, c.Port, c.User, c.Secret, c.Insecure = "127.0.0.1", addr.Port, "u", fencing.NewSecret("pass"), true
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	short := fencing.Limits{Status: 100 * time.Millisecond, Order: 100 * time.Millisecond}
	if st, err := fencing.Bounded(d, short).Status(t.Context()); st != fencing.Unknown || !errors.Is(err, fencing.ErrTimeout) {
		t.Errorf("%s, %v", st, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Off(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"address":     func(c *Config) { c.Address = "" },
		"URL":         func(c *Config) { c.Address = "https://bmc/" },
		"port":        func(c *Config) { c.Port = 0 },
		"user":        func(c *Config) { c.User = "a:b" },
		"secret":      func(c *Config) { c.Secret = fencing.Secret{} },
		"auth":        func(c *Config) { c.Auth = "digest" },
		"system":      func(c *Config) { c.System = "https://elsewhere" },
		"path":        func(c *Config) { c.System = "/redfish/../x" },
		"fingerprint": func(c *Config) { c.Fingerprint = "abcd" },
		"two trusts":  func(c *Config) { c.CA, c.Insecure = "/x", true },
		"no CA":       func(c *Config) { c.CA = "/nonexistent" },
	} {
		c := Default()
		c.Address, c.User, c.Secret = "bmc", "u", fencing.NewSecret("s3cret")
		if _, err := New(c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := New(c); !errors.Is(err, fencing.ErrConfig) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing that a BMC sends may panic, lead to another host, or be an off that it did not say.
func FuzzSystem(f *testing.F) {
	f.Add(`{"Id":"1","PowerState":"Off","Actions":{"#ComputerSystem.Reset":{"target":"/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"}}}`, "/redfish/v1/Systems/1")
	f.Add(`{"PowerState":"PoweringOff"}`, "//elsewhere")
	f.Add(`[]`, "/redfish/v1/Systems/1/")
	f.Fuzz(func(t *testing.T, doc, member string) {
		var s system
		if json.Unmarshal([]byte(doc), &s) == nil {
			if s.state() == fencing.Off && !strings.Contains(doc, "Off") && !strings.Contains(doc, `\u`) {
				t.Fatalf("%s is no off", doc)
			}
			if _, target, err := s.choose([]string{"ForceOff"}); err == nil && !strings.HasPrefix(target, "/redfish/") {
				t.Fatalf("target %q", target)
			}
		}
		if path, err := pick([]link{{member}}, ""); err == nil && !strings.HasPrefix(path, "/redfish/") {
			t.Fatalf("member %q", path)
		}
		_ = explain([]byte(doc))
	})
}
