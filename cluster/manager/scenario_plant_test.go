package manager

import (
	"os"
	"strings"
	"testing"
	"time"
)

// planted plays a scenario of the directory with a mistake in it, and returns what speaks against it.
func planted(t *testing.T, name string, script func(string) string, change ...func(*Config)) string {
	t.Helper()
	text, err := os.ReadFile("testdata/scenarios/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	sc, err := parseScenario(script(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	log, err := runScenario(t, sc, change...)
	if err != nil {
		return err.Error()
	}
	if err := sameLog(sc.log, sc.steady(log), sc.within); err != nil {
		return err.Error()
	}
	return ""
}

func asItIs(s string) string { return s }

// A wrong manager, a device that no leader could see through, and a wrong log are noticed.
func TestScenarios_planted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		scenario string
		script   func(string) string
		change   func(*Config)
		want     string // part of what is noticed
	}{
		"as it is":         {"network-cut-spm-deaf", asItIs, func(*Config) {}, ""},
		"fences who lives": {"network-cut-spm-deaf", asItIs, func(c *Config) { c.Policy.SkipIfLive = false }, "expected serving a"},
		"never fences":     {"spm-power-cut", asItIs, func(c *Config) { c.Policy.Fencing = false }, "expected offs 1"},
		"fences from a minority": {"most-hosts-silent", asItIs, func(c *Config) {
			c.Policy.SkipIfHalfDead, c.Policy.SkipIfLive = false, false
		}, "expected"},
		"believes a clock in place of a proof": {"no-power-no-watchdog", asItIs, func(c *Config) { c.Policy.UnprotectedTakeover = true }, "expected serving nobody"},
		"slow":                                 {"spm-power-cut", asItIs, func(c *Config) { c.Tick, c.PingTimeout = 3*time.Second, 3*time.Second }, "fence a"},
		"a device that swears": {"bmc-lies", func(s string) string {
			return strings.Replace(s, "power lies", "power swears", 1)
		}, func(*Config) {}, "proved the death of a running host a"},
		"a line too many": {"spm-move", func(s string) string { return s + "\n 3.0s host b: up -> down\n" }, func(*Config) {}, "missing"},
		"a line too few":  {"spm-move", func(s string) string { return s[:strings.LastIndex(strings.TrimSpace(s), "\n")] }, func(*Config) {}, "not expected"},
		"another time":    {"spm-move", func(s string) string { return strings.ReplaceAll(s, "   2.0s  spm:", "   7.0s  spm:") }, func(*Config) {}, "came at"},
		"another word":    {"spm-move", func(s string) string { return strings.Replace(s, "c takes the role", "b takes the role", 1) }, func(*Config) {}, "instead of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := planted(t, tc.scenario, tc.script, tc.change); !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
				t.Errorf("noticed %q, want %q", got, tc.want)
			}
		})
	}
}
