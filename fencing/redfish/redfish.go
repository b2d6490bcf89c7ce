// Package redfish is a power device that speaks Redfish, HTTP with JSON, to a BMC.
//
// Only HTTPS, only the host that was configured (no redirects), and the BMC's certificate is checked: against the system's
// authorities, one's own, or a fingerprint. Not checking has to be asked for, and means that anybody on the way can say "off".
package redfish

import (
	"encoding/hex"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-io/holdfast/fencing"
)

// DefaultPort is that of HTTPS.
const DefaultPort = 443

// How to log in.
const (
	AuthBasic   = "basic"
	AuthSession = "session"
)

// Config is one BMC.
type Config struct {
	// Address is the BMC's name or IP address.
	Address string
	Port    int
	User    string
	Secret  fencing.Secret
	// System is the Id of the machine among those that the BMC has, or its path from /redfish on. Empty: the only one.
	System string
	// Auth is basic, or session where the BMC does not take basic.
	Auth string
	// CA is the path of a PEM file with the authorities that may sign the BMC's certificate. Empty: the system's.
	CA string
	// Fingerprint is the SHA-256 of the BMC's certificate, in hex; the certificate may be self-signed then.
	Fingerprint string
	// Insecure takes any certificate.
	Insecure bool
}

// Default is a configuration without address and login.
func Default() Config { return Config{Port: DefaultPort, Auth: AuthBasic} }

// systemName is an Id, or a path below /redfish.
var systemName = regexp.MustCompile(`^(/redfish/[A-Za-z0-9._~/-]+|[A-Za-z0-9._~-]+)$`)

// Validate refuses what cannot work, or would not be safe.
func (c Config) Validate() error {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if c.Address == "" || strings.ContainsAny(c.Address, " \t\n/@?#") {
		bad("address %q is no name or IP address", c.Address)
	}
	if c.Port < 1 || c.Port > 65535 {
		bad("port %d is none", c.Port)
	}
	if c.User == "" || c.Secret.Empty() || strings.ContainsAny(c.User, ":\n\r") {
		bad("a user (without colon) and a secret are needed")
	}
	if c.Auth != AuthBasic && c.Auth != AuthSession {
		bad("auth %q is neither basic nor session", c.Auth)
	}
	if c.System != "" && (!systemName.MatchString(c.System) || strings.Contains(c.System, "..")) {
		bad("system %q is neither an Id nor a path from /redfish on", c.System)
	}
	if _, err := parseFingerprint(c.Fingerprint); err != nil {
		bad("fingerprint %q is not the SHA-256 of a certificate in hex", c.Fingerprint)
	}
	if n := count(c.CA != "", c.Fingerprint != "", c.Insecure); n > 1 {
		bad("ca, fingerprint and insecure exclude each other")
	}
	if len(problems) > 0 {
		return fmt.Errorf("redfish: %s: %w", strings.Join(problems, "; "), fencing.ErrConfig)
	}
	return nil
}

func count(set ...bool) int {
	n := 0
	for _, s := range set {
		if s {
			n++
		}
	}
	return n
}

// parseFingerprint reads 32 bytes in hex, with or without colons; nil for "".
func parseFingerprint(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != 32 {
		return nil, fmt.Errorf("%d bytes: %w", len(b), fencing.ErrConfig)
	}
	return b, nil
}

// New makes the device; it sends nothing yet.
func New(c Config) (*Device, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	host := net.JoinHostPort(strings.Trim(c.Address, "[]"), strconv.Itoa(c.Port))
	return &Device{config: c, base: "https://" + host, http: client}, nil
}
