package fsm

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
)

// Types of fence devices.
const (
	FenceIPMI    = "ipmi"
	FenceRedfish = "redfish"
	FenceExec    = "exec" // a fence agent program; the option "agent" names it
	FenceProcess = "process"
	FenceNone    = "none"
)

var fenceTypes = []string{FenceIPMI, FenceRedfish, FenceExec, FenceProcess, FenceNone}

// FenceDevice is a way to switch a host off and on.
type FenceDevice struct {
	Host    string `codec:"h" json:"host"`
	Name    string `codec:"n" json:"name"`
	Type    string `codec:"t" json:"type"`
	Order   int    `codec:"o" json:"order"` // lower ones are tried first; those of one order are a group
	Address string `codec:"a,omitempty" json:"address,omitempty"`
	Port    int    `codec:"p,omitempty" json:"port,omitempty"` // 0: the type's own
	User    string `codec:"u,omitempty" json:"user,omitempty"`
	// Secret is sealed before it comes here. It is never shown.
	Secret   []byte   `codec:"s,omitempty" json:"-"`
	Options  []Option `codec:"x,omitempty" json:"options,omitempty"` // sorted by key
	Proxies  []string `codec:"y,omitempty" json:"proxies,omitempty"` // hosts to act through, in this order; none: any
	Disabled bool     `codec:"d,omitempty" json:"disabled,omitempty"`
	Updated  int64    `codec:"m,omitempty" json:"updated"`
}

// Option is one setting of a fence device.
type Option struct {
	Key   string `codec:"k" json:"key"`
	Value string `codec:"v" json:"value"`
}

// Option is the value of a setting; false when it is not given.
func (d FenceDevice) Option(key string) (string, bool) {
	for _, o := range d.Options {
		if o.Key == key {
			return o.Value, true
		}
	}
	return "", false
}

// Bounds of a device's fields.
const (
	MaxFenceDevices = 16 // of one host
	maxFenceOrder   = 1000
	maxSecret       = 4 << 10
	maxOptions      = 64
	maxOptionKey    = 64
	maxOptionValue  = 1 << 10
	maxProxies      = 32
)

var deviceName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,62})$`)

// FenceDeviceKey is the key of a device in State.FenceDevices.
func FenceDeviceKey(host, name string) string { return host + "/" + name }

// FenceDevicePut adds a fence device or replaces it as a whole, its secret too: who changes one field reads the rest first.
type FenceDevicePut struct {
	base   `codec:"-"`
	Device FenceDevice `codec:"d"`
	Time   int64       `codec:"t"`
}

func (*FenceDevicePut) kind() kind { return kindFenceDevicePut }

func (c *FenceDevicePut) apply(t *tables, _ uint64) Outcome {
	d := c.Device
	if _, ok := t.hosts.Get(d.Host); !ok {
		return refuse(CodeNotFound, "no host named "+d.Host)
	}
	d.Options = slices.Clone(d.Options)
	slices.SortStableFunc(d.Options, func(a, b Option) int { return cmp.Compare(a.Key, b.Key) })
	if why := d.invalid(); why != "" {
		return refuse(CodeInvalid, fmt.Sprintf("fence device %q of host %s: %s", cut(d.Name, maxName), d.Host, why))
	}
	key := FenceDeviceKey(d.Host, d.Name)
	if !t.fenceDevices.Has(key) && len(devicesOf(t.fenceDevices.Table, d.Host)) >= MaxFenceDevices {
		return refuse(CodeFull, fmt.Sprintf("host %s has %d fence devices already; remove one first", d.Host, MaxFenceDevices))
	}
	d.Updated = c.Time
	t.fenceDevices.put(key, d)
	return Outcome{}
}

// invalid says what is wrong with a device whose options are sorted.
func (d FenceDevice) invalid() string {
	switch {
	case !deviceName.MatchString(d.Name):
		return "use 1 to 63 of letters, digits, '-', '_' and '.' as its name, with a letter or digit first"
	case !slices.Contains(fenceTypes, d.Type):
		return fmt.Sprintf("type %q: use one of %v", cut(d.Type, maxName), fenceTypes)
	case d.Order < 0 || d.Order > maxFenceOrder:
		return fmt.Sprintf("order %d: use 0 to %d", d.Order, maxFenceOrder)
	case d.Port < 0 || d.Port > 65535:
		return fmt.Sprintf("port %d: use 1 to 65535, or 0 for the type's own", d.Port)
	case len(d.Address) > maxName || len(d.User) > maxName:
		return fmt.Sprintf("its address and its user have at most %d bytes", maxName)
	case len(d.Secret) > maxSecret:
		return fmt.Sprintf("its sealed secret has at most %d bytes", maxSecret)
	}
	if why := badOptions(d.Options); why != "" {
		return why
	}
	if agent, ok := d.Option("agent"); d.Type == FenceExec && (!ok || agent == "") {
		return "type exec needs the option agent with the program's name"
	}
	return badProxies(d.Host, d.Proxies)
}

func badOptions(options []Option) string {
	if len(options) > maxOptions {
		return fmt.Sprintf("at most %d options", maxOptions)
	}
	for i, o := range options {
		switch {
		case o.Key == "" || len(o.Key) > maxOptionKey || len(o.Value) > maxOptionValue:
			return fmt.Sprintf("an option's name has 1 to %d bytes and its value at most %d", maxOptionKey, maxOptionValue)
		case i > 0 && options[i-1].Key == o.Key:
			return "option " + o.Key + " is given twice"
		}
	}
	return ""
}

func badProxies(host string, proxies []string) string {
	if len(proxies) > maxProxies {
		return fmt.Sprintf("at most %d proxies", maxProxies)
	}
	for i, p := range proxies {
		switch {
		case CheckHostName(p) != nil:
			return fmt.Sprintf("proxy %q is no host's name", cut(p, maxName))
		case p == host:
			return "a host cannot be the proxy that switches itself off"
		case slices.Contains(proxies[:i], p):
			return "proxy " + p + " is given twice"
		}
	}
	return ""
}

// FenceDeviceRemove forgets a fence device.
type FenceDeviceRemove struct {
	base `codec:"-"`
	Host string `codec:"h"`
	Name string `codec:"n"`
	Time int64  `codec:"t"`
}

func (*FenceDeviceRemove) kind() kind { return kindFenceDeviceRemove }

func (c *FenceDeviceRemove) apply(t *tables, _ uint64) Outcome {
	if _, ok := t.fenceDevices.remove(FenceDeviceKey(c.Host, c.Name)); !ok {
		return refuse(CodeNotFound, fmt.Sprintf("host %s has no fence device %s", c.Host, c.Name))
	}
	return Outcome{}
}

// DevicesOf lists the fence devices of a host by order, then name; those that are disabled too.
func (s *State) DevicesOf(host string) []FenceDevice { return devicesOf(s.FenceDevices, host) }

func devicesOf(t Table[FenceDevice], host string) []FenceDevice {
	var out []FenceDevice
	for _, d := range t.Prefix(host + "/") {
		out = append(out, d)
	}
	slices.SortStableFunc(out, func(a, b FenceDevice) int { return cmp.Compare(a.Order, b.Order) })
	return out
}
