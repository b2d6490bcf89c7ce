package clusterlabs

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/fencing"
)

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	par := func(k, v string) Config {
		return Config{Agent: "fence_x", Parameters: map[string]string{k: v}}
	}
	tests := []struct {
		name string
		c    Config
		say  string
	}{
		{"path", Config{Agent: "../fence_x"}, "not of the form"},
		{"capital", Config{Agent: "fence_X"}, "not of the form"},
		{"another program", Config{Agent: "reboot"}, "not of the form"},
		{"no power", Config{Agent: "fence_heuristics_ping"}, "would prove nothing"},
		{"port", Config{Agent: "fence_x", Port: 70000}, "port 70000"},
		{"action", par("action", "on"), "chosen with every call"},
		{"ip", par("ip", "1"), "address instead"},
		{"program", par("ipmitool_path", "/tmp/x"), "names a program"},
		{"script", par("password_script", "/tmp/x"), "names a program"},
		{"debug", par("debug_file", "/tmp/x"), "writes secrets"},
		{"secret", par("snmp_priv_passwd", "x"), "secret_parameter=snmp_priv_passwd"},
		{"line", par("plug", "1\naction=on"), "line break"},
		{"zero", par("plug", "1\x00"), "zero byte"},
		{"name", par("Plug", "1"), "small letters"},
		{"name with line", par("plug\naction", "1"), "small letters"},
		{"user", Config{Agent: "fence_x", User: "a\rb"}, "the user has"},
		{"secret line", Config{Agent: "fence_x", Secret: fencing.NewSecret("a\naction=on")}, "the secret has"},
		{"address", Config{Agent: "fence_x", Address: "a\nb"}, "the address has"},
		{"secret parameter", Config{Agent: "fence_x", SecretParameter: "a=b"}, "secret_parameter"},
		{"twice", Config{Agent: "fence_x", SecretParameter: "key", Parameters: map[string]string{"key": "1"}}, "already"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.c.Validate()
			if !errors.Is(err, fencing.ErrConfig) || !strings.Contains(err.Error(), tt.say) {
				t.Fatal(err)
			}
			if _, err := New(nil, tt.c); !errors.Is(err, fencing.ErrConfig) {
				t.Fatal("New took it")
			}
		})
	}
	if err := par("plug", "1").Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfig_check(t *testing.T) {
	t.Parallel()
	m, err := parseMetadata(metadataText)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		c    Config
		say  string // in the error; "" for none
		warn string
	}{
		{"well", Config{Address: "a", Parameters: map[string]string{"plug": "1", "systems_uri": "/x", "method": "cycle"}}, "", ""},
		{"unknown", Config{Address: "a", Parameters: map[string]string{"plugs": "1"}}, "does not know the parameter plugs (is it plug?)", ""},
		{"deprecated", Config{Address: "a", Parameters: map[string]string{"port": "1"}}, "", "port is deprecated: use plug"},
		{"required", Config{}, "needs ip", ""},
		{"number", Config{Address: "a", Parameters: map[string]string{"power_wait": "soon"}}, "not a number", ""},
		{"boolean", Config{Address: "a", Parameters: map[string]string{"ssl_insecure": "maybe"}}, "neither yes nor no", ""},
		{"select", Config{Address: "a", Parameters: map[string]string{"method": "kick"}}, "none of onoff, cycle", ""},
		{"secret's place", Config{Address: "a", SecretParameter: "key"}, "no such thing as a parameter key", ""},
		{"slow cipher", Config{Address: "a", Parameters: map[string]string{"lanplus": "1"}}, "", "14 s"},
		{"quick cipher", Config{Address: "a", Parameters: map[string]string{"lanplus": "1", "cipher": "3"}}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			warnings, err := tt.c.check(m)
			if (err != nil) != (tt.say != "") || err != nil && (!strings.Contains(err.Error(), tt.say) || !errors.Is(err, fencing.ErrConfig)) {
				t.Errorf("error %v", err)
			}
			if w := strings.Join(warnings, "; "); (w != "") != (tt.warn != "") || !strings.Contains(w, tt.warn) {
				t.Errorf("warnings %q", w)
			}
		})
	}
}

// Agents of other times have other names for the same.
func TestConfig_parameters_oldNames(t *testing.T) {
	t.Parallel()
	m := Metadata{Parameters: []Parameter{{Name: "ipaddr"}, {Name: "login"}, {Name: "passwd"}, {Name: "community"}}}
	c := Config{Address: "a", Port: 1, User: "u", Secret: fencing.NewSecret("s")}
	want := []pair{{"ipaddr", "a"}, {"login", "u"}, {"passwd", "s"}}
	if got := c.parameters(m); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	c.SecretParameter = "community"
	if got := c.parameters(m); got[2] != (pair{"community", "s"}) {
		t.Errorf("%v", got)
	}
}

func TestInput(t *testing.T) {
	t.Parallel()
	got := input("off", []pair{{"a", "1"}, {"b", "x y "}, {"c", `"q"`}, {"d", `q"`}, {"e", "#=="}})
	if want := "action=off\na=1\nb=\"x y \"\nc=\"\"q\"\"\nd=q\"\ne=#==\n"; got != want {
		t.Errorf("%q", got)
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add(metadataText)
	f.Add("<resource-agent name='x'><parameters><parameter name='a'/></parameters><actions><action name='on'/></actions></resource-agent>")
	f.Add("<resource-agent")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMetadata(text)
		if err != nil {
			if !errors.Is(err, fencing.ErrGarbage) {
				t.Fatal(err)
			}
			return
		}
		if len(m.Parameters) == 0 || len(m.Actions) == 0 {
			t.Fatal("metadata without parameters or actions")
		}
		_, _ = Config{Agent: "fence_x", Address: "a", Parameters: map[string]string{"plug": "1"}}.check(m)
	})
}
