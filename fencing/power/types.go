package power

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fencing/clusterlabs"
	"github.com/holdfast-io/holdfast/fencing/ipmi"
	"github.com/holdfast-io/holdfast/fencing/redfish"
)

// Types of devices.
const (
	TypeIPMI    = "ipmi"
	TypeRedfish = "redfish"
	TypeExec    = "exec"
	TypeProcess = "process"
	TypeNone    = "none"
)

// kind is a type of device: its options, and what is made of a configuration.
type kind struct {
	options   []Option
	anyOption bool // others are the agent's
	prepare   func(c Config, o *options) (open func(*Opener) (fencing.Device, error), warnings []string, err error)
}

// types is the registry.
var types = map[string]kind{
	TypeIPMI: {
		options: []Option{
			{"cipher", "17,3", "cipher suites to try, in order: 17 (SHA-256), 3 (SHA-1)"},
			{"privilege", "operator", "what the session asks for: operator or administrator"},
		},
		prepare: prepareIPMI,
	},
	TypeRedfish: {
		options: []Option{
			{"system", "", "Id or path of the machine, where the BMC has several"},
			{"auth", redfish.AuthBasic, "basic, or session"},
			{"ca", "", "path of a PEM file with the authorities of the BMC's certificate, on every host"},
			{"fingerprint", "", "SHA-256 of the BMC's certificate in hex, instead of ca"},
			{"insecure", "no", "yes takes any certificate: whoever is on the way can say off"},
		},
		prepare: prepareRedfish,
	},
	TypeExec: {
		options: []Option{
			{"agent", "", "the fence agent: fence_NAME"},
			{"secret_parameter", "", "the agent's parameter that gets the secret, where it is not its password"},
		},
		anyOption: true,
		prepare:   prepareExec,
	},
	TypeProcess: {
		options: []Option{{"host", "", "the host's name at the supervisor"}},
		prepare: prepareProcess,
	},
	TypeNone: {
		prepare: func(Config, *options) (func(*Opener) (fencing.Device, error), []string, error) {
			return func(*Opener) (fencing.Device, error) { return fencing.NoDevice(), nil }, nil, nil
		},
	},
}

func prepareIPMI(c Config, o *options) (func(*Opener) (fencing.Device, error), []string, error) {
	conf := ipmi.Default()
	conf.Address, conf.User, conf.Secret = c.Address, c.User, c.Secret
	if c.Port != 0 {
		conf.Port = c.Port
	}
	conf.Ciphers, conf.Privilege = o.numbers("cipher"), o.text("privilege")
	open := func(*Opener) (fencing.Device, error) { return ipmi.New(conf) }
	if len(o.problems) > 0 {
		return open, nil, nil // told already
	}
	var warnings []string
	if !slices.Contains(conf.Ciphers, 17) {
		warnings = append(warnings, "cipher suite 3 alone is SHA-1; 17 is better where the BMC has it")
	}
	return open, warnings, conf.Validate()
}

func prepareRedfish(c Config, o *options) (func(*Opener) (fencing.Device, error), []string, error) {
	conf := redfish.Default()
	conf.Address, conf.User, conf.Secret = c.Address, c.User, c.Secret
	if c.Port != 0 {
		conf.Port = c.Port
	}
	conf.System, conf.Auth, conf.CA = o.text("system"), o.text("auth"), o.text("ca")
	conf.Fingerprint, conf.Insecure = o.text("fingerprint"), o.yes("insecure")
	if conf.CA != "" && !filepath.IsAbs(conf.CA) {
		o.bad("option ca is not an absolute path")
	}
	var warnings []string
	if conf.Insecure {
		warnings = append(warnings, "insecure: the BMC's certificate is not checked, so that anybody on the way can say that the host is off, and read the secret; set fingerprint instead")
	}
	return func(*Opener) (fencing.Device, error) { return redfish.New(conf) }, warnings, conf.Validate()
}

// onIPMITool are fence_ipmilan and its other names.
var onIPMITool = []string{"fence_ipmilan", "fence_ipmilanplus", "fence_idrac", "fence_ilo3", "fence_ilo4", "fence_ilo5", "fence_imm"}

// prepareExec gives the agent every option that is not ours.
func prepareExec(c Config, o *options) (func(*Opener) (fencing.Device, error), []string, error) {
	conf := clusterlabs.Config{
		Agent: o.text("agent"), Address: c.Address, Port: c.Port, User: c.User, Secret: c.Secret,
		SecretParameter: o.text("secret_parameter"), Parameters: map[string]string{},
	}
	ours := append(slices.Clone(o.known), common...)
	for name := range c.Options {
		if !slices.ContainsFunc(ours, func(k Option) bool { return k.Name == name }) {
			conf.Parameters[name] = o.text(name)
		}
	}
	var warnings []string
	if slices.Contains(onIPMITool, conf.Agent) {
		warnings = append(warnings, conf.Agent+" gives the secret to ipmitool as an argument, where every user of the host that runs it can read it; type ipmi does not")
	}
	return func(op *Opener) (fencing.Device, error) { return clusterlabs.New(op.agents, conf) }, warnings, conf.Validate()
}

// prepareProcess is the power switch of the dev supervisor: the address is its socket.
func prepareProcess(c Config, o *options) (func(*Opener) (fencing.Device, error), []string, error) {
	host := o.text("host")
	if !filepath.IsAbs(c.Address) {
		o.bad("type process needs the absolute path of the supervisor's socket as its address")
	}
	if host == "" {
		o.bad("type process needs the option host")
	}
	open := func(*Opener) (fencing.Device, error) {
		return fencing.AgentDevice(fencing.NewProcess(c.Address), host), nil
	}
	return open, nil, nil
}

// String describes a configuration without its secret.
func (c Config) String() string {
	return fmt.Sprintf("%s (%s at %s, order %d)", c.Name, c.Type, c.Address, c.Order)
}
