// Package ipmi is a power device that speaks IPMI 2.0 to a BMC over the network (RMCP+, UDP port 623).
//
// A status of "off" may become the proof of a host's death, so every answer must prove where it comes from. Sessions use
// authentication, integrity and encryption (cipher suites 17 and 3, nothing weaker), both sides show that they know the
// secret, and in a session only packets count that are authenticated, encrypted, of this session, newer than the last one, and
// the answer to the request that was just sent. Everything else is dropped, and the wait goes on until the real answer comes
// or the time is up. The messages and the derivation of keys come from github.com/bougou/go-ipmi; its client is not used, for
// it does not check the authentication codes of answers. See DESIGN.md of package fencing.
package ipmi

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/holdfast-io/holdfast/fencing"
)

// DefaultPort is IPMI's.
const DefaultPort = 623

// Limits of the protocol.
const (
	maxUser   = 16
	maxSecret = 20
)

// Config is one BMC.
type Config struct {
	// Address is the BMC's name or IP address.
	Address string
	// Port is 623 in all but tests and tunnels.
	Port int
	// User has up to 16 bytes, Secret up to 20.
	User   string
	Secret fencing.Secret
	// Ciphers are the cipher suites to try, in order: 17 (SHA-256) and 3 (SHA-1). The next one is tried when the BMC
	// does not know one.
	Ciphers []int
	// Privilege is what the session asks for: operator suffices to switch power, some BMCs want administrator.
	Privilege string
}

// Default is a configuration without address and login.
func Default() Config {
	return Config{Port: DefaultPort, Ciphers: []int{17, 3}, Privilege: "operator"}
}

// privileges are those that may switch power.
var privileges = map[string]types.PrivilegeLevel{
	"operator": types.PrivilegeLevelOperator, "administrator": types.PrivilegeLevelAdministrator,
}

// Validate refuses what cannot work, or would not be safe.
func (c Config) Validate() error {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if c.Address == "" || strings.ContainsAny(c.Address, " \t\n/") {
		bad("address %q is no name or IP address", c.Address)
	}
	if c.Port < 1 || c.Port > 65535 {
		bad("port %d is none", c.Port)
	}
	if len(c.User) > maxUser || strings.ContainsRune(c.User, 0) {
		bad("IPMI users have up to %d bytes", maxUser)
	}
	if n := len(c.Secret.Reveal()); n == 0 || n > maxSecret || strings.ContainsRune(c.Secret.Reveal(), 0) {
		bad("IPMI secrets have 1 to %d bytes, this one has %d", maxSecret, n)
	}
	if len(c.Ciphers) == 0 {
		bad("no cipher suite")
	}
	for _, id := range c.Ciphers {
		if _, ok := suites[id]; !ok {
			bad("cipher suite %d is not one of 17 and 3; others leave answers without protection", id)
		}
	}
	if _, ok := privileges[c.Privilege]; !ok {
		bad("privilege %q is neither operator nor administrator", c.Privilege)
	}
	if len(problems) > 0 {
		return fmt.Errorf("ipmi: %s: %w", strings.Join(problems, "; "), fencing.ErrConfig)
	}
	return nil
}

// New makes the device; it sends nothing yet.
func New(c Config) (*Device, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Ciphers = slices.Clone(c.Ciphers)
	return &Device{
		config: c, target: net.JoinHostPort(strings.Trim(c.Address, "[]"), fmt.Sprint(c.Port)),
		waits: defaultWaits, shortWaits: defaultWaits[:2],
	}, nil
}
