// Package clusterlabs runs the fence agents of the ClusterLabs project (Debian: fence-agents) as power devices.
//
// An agent is a program fence_X that reads key=value lines, does one action, and exits: 0 done, or power on; 2, for status
// alone, power off; anything else failed. Parameters, secrets among them, travel on its standard input only. Since many
// programs exit with 2 when they could not even begin (an interpreter that does not find its script, for one), that counts as
// off only together with the words "Status: OFF"; a host must not be called dead because a package is broken.
package clusterlabs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/fencing"
)

// Config is an agent for one machine.
type Config struct {
	// Agent is the program's name: fence_ and small letters, digits, underscores.
	Agent string
	// Address, Port, User and Secret become the agent's parameters ip, ipport, username and password, under the names that
	// this agent knows.
	Address string
	Port    int
	User    string
	Secret  fencing.Secret
	// SecretParameter is the parameter that gets Secret; empty is the password.
	SecretParameter string
	// Parameters are all the others: plug, cipher, ssl_insecure, ...
	Parameters map[string]string
}

var (
	agentName     = regexp.MustCompile(`^fence_[a-z0-9_]+$`)
	parameterName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// noPower are agents whose off says nothing about power: they ask people, ping, send messages, or only move virtual machines.
var noPower = []string{"fence_ack_manual", "fence_heuristics_ping", "fence_kdump", "fence_evacuate", "fence_compute", "fence_sbd"}

// reserved are parameters that are set from elsewhere or not at all.
var reserved = map[string]string{
	"action":  "it is chosen with every call",
	"ip":      "set the device's address instead",
	"ipaddr":  "set the device's address instead",
	"ipport":  "set the device's port instead",
	"login":   "set the device's user instead",
	"debug":   "it writes secrets to a file",
	"verbose": "it writes secrets to the output",
	"version": "it keeps the agent from acting",
	"help":    "it keeps the agent from acting",

	"username":      "set the device's user instead",
	"debug_file":    "it writes secrets to a file",
	"verbose_level": "it writes secrets to the output",
}

// secretWords are in the names of parameters that are secrets.
var secretWords = []string{"passw", "secret", "community", "token", "apikey", "api_key", "_kg"}

// Validate refuses what cannot work, or should not. It runs nothing; Device.Check compares with the agent's own metadata.
func (c Config) Validate() error {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	switch {
	case !agentName.MatchString(c.Agent):
		bad("agent %q is not of the form fence_name", c.Agent)
	case slices.Contains(noPower, c.Agent):
		bad("agent %s switches no power: its off would prove nothing", c.Agent)
	}
	if c.Port < 0 || c.Port > 65535 {
		bad("port %d is none", c.Port)
	}
	for _, name := range sortedKeys(c.Parameters) {
		if why := c.badParameter(name); why != "" {
			bad("parameter %s: %s", name, why)
		}
	}
	if name := c.SecretParameter; name != "" && !parameterName.MatchString(name) {
		bad("secret_parameter %q is not a parameter's name", name)
	}
	for what, v := range map[string]string{"address": c.Address, "user": c.User, "secret": c.Secret.Reveal()} {
		if !oneLine(v) {
			bad("the %s has a line break or a zero byte in it", what)
		}
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		return fmt.Errorf("%s: %w", strings.Join(problems, "; "), fencing.ErrConfig)
	}
	return nil
}

// badParameter says what is wrong with one of Parameters.
func (c Config) badParameter(name string) string {
	isSecret := slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(name, w) })
	switch {
	case !parameterName.MatchString(name):
		return "names are of small letters, digits and underscores"
	case reserved[name] != "":
		return reserved[name]
	case strings.HasSuffix(name, "_path"), strings.HasSuffix(name, "_script"):
		return "it names a program to run, which is not for a parameter to choose"
	case isSecret:
		return "it is a secret: give it as the device's secret, with secret_parameter=" + name
	case name == c.SecretParameter:
		return "it is the secret_parameter already"
	case !oneLine(c.Parameters[name]):
		return "the value has a line break or a zero byte in it"
	}
	return ""
}

// oneLine reports whether a value can travel on one line.
func oneLine(v string) bool { return !strings.ContainsAny(v, "\n\r\x00") }

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
