package power

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func opener(t *testing.T) *Opener {
	t.Helper()
	o, err := NewOpener(nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// good are configurations of all types that can be opened without anything there.
func good() map[string]Config {
	s := fencing.NewSecret("s3cret-word")
	return map[string]Config{
		TypeIPMI:    {Name: "bmc", Type: TypeIPMI, Order: 1, Address: "10.0.0.1", User: "fence", Secret: s},
		TypeRedfish: {Name: "bmc", Type: TypeRedfish, Order: 1, Address: "bmc.example", Port: 8443, User: "fence", Secret: s},
		TypeExec:    {Name: "pdu-1", Type: TypeExec, Order: 2, Address: "10.0.0.2", Secret: s, Options: map[string]string{"agent": "fence_apc", "plug": "7"}},
		TypeProcess: {Name: "dev", Type: TypeProcess, Address: "/run/x", Options: map[string]string{"host": "h1"}},
		TypeNone:    {Name: "none", Type: TypeNone},
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	for typ, c := range good() {
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
		if _, err := opener(t).Open(c); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
	if len(good()) != len(types) {
		t.Error("a type is not tested")
	}
}

func TestConfig_Validate_refuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		typ    string
		change func(*Config)
		say    []string
	}{
		{"name", TypeIPMI, func(c *Config) { c.Name = "a b" }, []string{"name"}},
		{"type", TypeIPMI, func(c *Config) { c.Type = "ilo" }, []string{"type", "exec, ipmi, none, process, redfish"}},
		{"order", TypeIPMI, func(c *Config) { c.Order = -1 }, []string{"order -1"}},
		{"port", TypeIPMI, func(c *Config) { c.Port = 99999 }, []string{"port 99999"}},
		{"everything at once", TypeIPMI, func(c *Config) { c.Name, c.Order, c.Address = "", 1000, "" }, []string{"name", "order", "address"}},
		{"misspelt option", TypeIPMI, func(c *Config) { c.Options = map[string]string{"ciphers": "3"} }, []string{"no option ciphers", "cipher, privilege"}},
		{"weak cipher", TypeIPMI, func(c *Config) { c.Options = map[string]string{"cipher": "17,0"} }, []string{"cipher suite 0"}},
		{"no number", TypeIPMI, func(c *Config) { c.Options = map[string]string{"cipher": "best"} }, []string{"not a number"}},
		{"long", TypeIPMI, func(c *Config) { c.Options = map[string]string{"privilege": strings.Repeat("x", 2000)} }, []string{"more than 1024"}},
		{"timeout", TypeIPMI, func(c *Config) { c.Options = map[string]string{"status_timeout": "1h"} }, []string{"status_timeout"}},
		{"yes or no", TypeRedfish, func(c *Config) { c.Options = map[string]string{"insecure": "perhaps"} }, []string{"neither yes nor no"}},
		{"two trusts", TypeRedfish, func(c *Config) { c.Options = map[string]string{"insecure": "yes", "ca": "/x"} }, []string{"exclude each other"}},
		{"relative", TypeRedfish, func(c *Config) { c.Options = map[string]string{"ca": "x.pem"} }, []string{"absolute"}},
		{"agent", TypeExec, func(c *Config) { c.Options["agent"] = "/bin/sh" }, []string{"fence_name"}},
		{"no agent", TypeExec, func(c *Config) { delete(c.Options, "agent") }, []string{"fence_name"}},
		{"a program by parameter", TypeExec, func(c *Config) { c.Options["ssh_path"] = "/bin/sh" }, []string{"names a program"}},
		{"a secret by parameter", TypeExec, func(c *Config) { c.Options["password"] = "x" }, []string{"secret_parameter"}},
		{"socket", TypeProcess, func(c *Config) { c.Address = "run/x" }, []string{"socket"}},
		{"host", TypeProcess, func(c *Config) { c.Options = nil }, []string{"option host"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := good()[tt.typ]
			c.Options = maps.Clone(c.Options)
			tt.change(&c)
			err := c.Validate()
			if !errors.Is(err, fencing.ErrConfig) {
				t.Fatal(err)
			}
			for _, say := range tt.say {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%v does not say %q", err, say)
				}
			}
			if _, err := opener(t).Open(c); !errors.Is(err, fencing.ErrConfig) {
				t.Errorf("opened: %v", err)
			}
		})
	}
}

func TestConfig_noSecret(t *testing.T) {
	t.Parallel()
	for _, c := range good() {
		js, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprintf("%v %+v %#v %s", c, c, c, js); strings.Contains(text, "s3cret-word") {
			t.Error(text)
		}
	}
}

func TestValidateAll(t *testing.T) {
	t.Parallel()
	g := good()
	if err := ValidateAll([]Config{g[TypeIPMI], g[TypeExec]}); err != nil {
		t.Error(err)
	}
	for name, cs := range map[string][]Config{
		"same name": {g[TypeIPMI], g[TypeRedfish]},
		"none":      {g[TypeIPMI], g[TypeNone]},
		"many":      make([]Config, 17),
	} {
		if err := ValidateAll(cs); !errors.Is(err, fencing.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpener_Warnings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		typ     string
		options map[string]string
		say     string
	}{
		{TypeIPMI, map[string]string{"cipher": "3"}, "SHA-1"},
		{TypeIPMI, nil, ""},
		{TypeRedfish, map[string]string{"insecure": "yes"}, "anybody on the way"},
		{TypeNone, nil, ""},
	}
	for _, tt := range tests {
		c := good()[tt.typ]
		c.Options = tt.options
		w, err := opener(t).Warnings(t.Context(), c)
		if text := strings.Join(w, "; "); err != nil || (text == "") != (tt.say == "") || !strings.Contains(text, tt.say) {
			t.Errorf("%s: %q, %v", tt.typ, text, err)
		}
	}
	testutil.NeedTool(t, "fence_ipmilan")
	c := good()[TypeExec]
	c.Options = map[string]string{"agent": "fence_ipmilan", "lanplus": "1", "plugg": "1"}
	w, err := opener(t).Warnings(testutil.Deadline(t), c)
	text := strings.Join(w, "; ")
	if !errors.Is(err, fencing.ErrConfig) || !strings.Contains(err.Error(), "plugg") || !strings.Contains(text, "argument") || !strings.Contains(text, "14 s") {
		t.Errorf("%q, %v", text, err)
	}
}

// supervisor is a power switch of one process.
type supervisor struct {
	mu    sync.Mutex // guards state
	state fencing.State
}

func (s *supervisor) Status(context.Context, string) (fencing.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, nil
}

func (s *supervisor) Off(context.Context, string) (fencing.Evidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = fencing.Off
	return fencing.Evidence{Kind: fencing.KindProcessExit, Detail: "pid 7 exited"}, nil
}

func (s *supervisor) On(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = fencing.On
	return nil
}

// serve runs a supervisor for type process.
func serve(t *testing.T) Config {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: fencing.Handler(&supervisor{state: fencing.On}), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return Config{Name: "process", Type: TypeProcess, Address: socket, Options: map[string]string{"host": "h1"}}
}

func TestOpener_Machine(t *testing.T) {
	t.Parallel()
	o, c := opener(t), serve(t)
	bad := good()[TypeIPMI]
	bad.Address = ""
	// A device that cannot be opened does not keep the next group from being used.
	c.Order = 2
	m, err := o.Machine("h1", []Config{bad, c}, fencing.DefaultTiming())
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Off(testutil.Deadline(t))
	if _, ok := r.Evidence(); err != nil || !ok || !strings.Contains(r.String(), "address") || !strings.Contains(r.String(), "pid 7 exited") {
		t.Fatalf("%v, %s", err, r)
	}
	if h := m.Health(t.Context()); strings.Join(h.Broken(), ",") != "bmc" || !h.Off {
		t.Errorf("%+v", h)
	}
	// In its own group it does: half a machine that is off is on.
	c.Order = 1
	m, err = o.Machine("h1", []Config{bad, c}, fencing.DefaultTiming())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.On(testutil.Deadline(t)); err != nil {
		t.Errorf("on needs any: %v", err)
	}
	if r, err := m.Off(testutil.Deadline(t)); !errors.Is(err, fencing.ErrNotConfirmed) || !r.OffAt.IsZero() {
		t.Errorf("%v, %s", err, r)
	}
	if _, err := o.Machine("h1", nil, fencing.DefaultTiming()); !errors.Is(err, fencing.ErrNoAgent) {
		t.Error(err)
	}
	m, err = o.Machine("h1", []Config{good()[TypeNone]}, fencing.DefaultTiming())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Off(t.Context()); !errors.Is(err, fencing.ErrNoAgent) || !errors.Is(err, fencing.ErrNotConfirmed) {
		t.Error(err)
	}
	if _, err := o.Machine("h1", make([]Config, 17), fencing.DefaultTiming()); !errors.Is(err, fencing.ErrConfig) {
		t.Error(err)
	}
}

// The document tells of every type and option, with its default.
func TestDocs(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/power-devices.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		rows[strings.TrimSpace(line)] = true
	}
	for _, typ := range Types() {
		if !strings.Contains(string(b), "`"+typ+"`") {
			t.Errorf("type %s is not explained", typ)
		}
		for _, o := range Options(typ) {
			if row := fmt.Sprintf("| `%s` | %s | %s |", o.Name, o.Default, o.Help); !rows[row] {
				t.Errorf("type %s: the document has no row %s", typ, row)
			}
		}
	}
	if Options("ilo") != nil {
		t.Error("options of a type that there is none of")
	}
}
