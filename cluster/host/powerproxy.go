package host

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fencing/power"
	"github.com/holdfast-io/holdfast/fsm"
)

// OpenDevice makes a power device of its configuration and its secret in the clear.
type OpenDevice func(d fsm.FenceDevice, secret fencing.Secret) (fencing.Device, error)

// openPower makes a device of package power. The folders of fence agents are looked through when an agent is used.
func openPower(d fsm.FenceDevice, secret fencing.Secret) (fencing.Device, error) {
	o, err := power.NewOpener(nil)
	if err != nil {
		return nil, err
	}
	c := power.Config{Name: d.Name, Type: d.Type, Order: d.Order, Address: d.Address, Port: d.Port, User: d.User, Secret: secret,
		Options: map[string]string{}}
	for _, opt := range d.Options {
		c.Options[opt.Key] = opt.Value
	}
	return o.Open(c)
}

// powerPurpose is what secrets of power devices are sealed for.
const powerPurpose = "power devices"

// processDevice is the device that a host's configuration file may name for all hosts.
const processDevice = fsm.FenceProcess

// powers are the power devices of all hosts as this host can use them: those of the mirror, or for a host without any there the one
// of this host's configuration file.
type powers struct {
	agent fencing.Agent // of the configuration file; may be nil
	open  OpenDevice
	box   func() (*join.Box, error)
}

func (h *Host) powers(node *cluster.Node) powers {
	return powers{agent: h.cfg.Fencing, open: h.cfg.OpenDevice, box: func() (*join.Box, error) { return node.CA().Box(powerPurpose) }}
}

// powerProxy answers leaders that want this host to use power devices of others.
func (h *Host) powerProxy(node *cluster.Node) *manager.PowerProxy {
	return &manager.PowerProxy{Host: h.cfg.Cluster.Name, View: node.View, Switches: h.powers(node)}
}

// inUse are the devices of a host that are used, by order and name. A group of which one is disabled is not used at all: the others off is
// not the machine off, which may run on by that one.
func inUse(view *fsm.State, host string) []fsm.FenceDevice {
	all := view.DevicesOf(host)
	disabled := map[int]bool{}
	for _, d := range all {
		disabled[d.Order] = disabled[d.Order] || d.Disabled
	}
	return slices.DeleteFunc(slices.Clone(all), func(d fsm.FenceDevice) bool { return disabled[d.Order] || d.Type == fsm.FenceNone })
}

// Groups lists the devices of a host that are used, those of one order together.
func (p powers) Groups(view *fsm.State, host string) []manager.Group {
	all := view.DevicesOf(host)
	if len(all) == 0 && p.agent != nil {
		return []manager.Group{{Label: processDevice, Local: true}}
	}
	var out []manager.Group
	for _, d := range inUse(view, host) {
		if n := len(out); n == 0 || out[n-1].Order != d.Order {
			out = append(out, manager.Group{Order: d.Order, Local: true})
		}
		g := &out[len(out)-1]
		g.Label = strings.TrimPrefix(g.Label+","+d.Name, ",")
		g.Local = g.Local && bySupervisor(d)
		for _, proxy := range d.Proxies {
			if !slices.Contains(g.Prefer, proxy) {
				g.Prefer = append(g.Prefer, proxy)
			}
		}
	}
	for i := range out {
		if len(out[i].Label) > maxLabel {
			out[i].Label = fmt.Sprintf("all of order %d", out[i].Order)
		}
	}
	return out
}

// bySupervisor tells whether a device is the supervisor that each host's own configuration file names.
func bySupervisor(d fsm.FenceDevice) bool { return d.Type == fsm.FenceProcess && d.Address == "" }

// maxLabel bounds what a step calls a group; the log keeps no more.
const maxLabel = 200

// Open makes one group ready to be used on this host.
func (p powers) Open(view *fsm.State, host string, order int) (manager.Switch, error) {
	all := view.DevicesOf(host)
	if len(all) == 0 && p.agent != nil {
		return manager.AgentSwitch(p.agent, host), nil
	}
	var group []fsm.FenceDevice
	for _, d := range inUse(view, host) {
		if d.Order == order {
			group = append(group, d)
		}
	}
	process := slices.ContainsFunc(group, bySupervisor)
	switch {
	case len(group) == 0:
		return nil, fmt.Errorf("power devices of order %d of host %s: %w", order, host, fencing.ErrNoAgent)
	case process && len(group) > 1:
		return nil, fmt.Errorf("host %s: a device of type process without an address stands alone in its order: %w", host, fencing.ErrConfig)
	case process && p.agent == nil:
		return nil, fmt.Errorf("host %s: this host's configuration names no supervisor (fencing.agent process): %w", host, fencing.ErrConfig)
	case process:
		return manager.AgentSwitch(p.agent, host), nil
	}
	return p.machine(host, group)
}

// machine makes one switch of the devices of a group.
func (p powers) machine(host string, group []fsm.FenceDevice) (manager.Switch, error) {
	var members []fencing.Member
	for _, d := range group {
		dev, err := p.device(d)
		if err != nil {
			return nil, fmt.Errorf("power device %s of host %s: %w", d.Name, host, err)
		}
		members = append(members, fencing.Member{Name: d.Name, Order: d.Order, Device: dev})
	}
	m, err := fencing.NewMachine(host, members, fencing.DefaultTiming())
	if err != nil {
		return nil, err
	}
	return machineSwitch{m}, nil
}

// device opens one device with its secret.
func (p powers) device(d fsm.FenceDevice) (fencing.Device, error) {
	secret := fencing.Secret{}
	if len(d.Secret) > 0 {
		box, err := p.box()
		if err != nil {
			return nil, err
		}
		clear, err := box.Open(fsm.FenceDeviceKey(d.Host, d.Name), d.Secret)
		if err != nil {
			return nil, err
		}
		secret = fencing.NewSecret(string(clear))
	}
	return p.open(d, secret)
}

// machineSwitch is a fencing.Machine as the manager uses it.
type machineSwitch struct{ m *fencing.Machine }

// Status asks the devices.
func (s machineSwitch) Status(ctx context.Context) (fencing.State, string, error) {
	st, r, err := s.m.Status(ctx)
	return st, r.String(), err
}

// Off orders, and asks until all devices say off.
func (s machineSwitch) Off(ctx context.Context) (fencing.Evidence, error) {
	r, err := s.m.Off(ctx)
	if err != nil {
		return fencing.Evidence{}, fmt.Errorf("%w (%s)", err, r.String())
	}
	ev, ok := r.Evidence()
	if !ok {
		return ev, fmt.Errorf("%s: %w", r.String(), fencing.ErrNotConfirmed)
	}
	return ev, nil
}

// On orders, and asks until a device says on.
func (s machineSwitch) On(ctx context.Context) (string, error) {
	r, err := s.m.On(ctx)
	return r.String(), err
}

// Health looks at each device.
func (s machineSwitch) Health(ctx context.Context) fencing.Health { return s.m.Health(ctx) }

// ErrNotMember says that this host belongs to no cluster, which power devices would belong to.
var ErrNotMember error = notMember{}

type notMember struct{}

// Error says it to people.
func (notMember) Error() string { return "this host belongs to no cluster" }

// SealSecret hides the secret of a power device, for the replicated state. It is opened again only where the device is used.
func (h *Host) SealSecret(host, device, secret string) ([]byte, error) {
	node := h.Node()
	if node == nil {
		return nil, ErrNotMember
	}
	box, err := node.CA().Box(powerPurpose)
	if err != nil {
		return nil, err
	}
	return box.Seal(fsm.FenceDeviceKey(host, device), []byte(secret))
}

// CheckDevice says what is wrong with a power device's configuration, as far as this host can tell without asking it.
func (h *Host) CheckDevice(d fsm.FenceDevice, secret string) error {
	if d.Type == fsm.FenceNone || bySupervisor(d) {
		return nil
	}
	_, err := h.cfg.OpenDevice(d, fencing.NewSecret(secret))
	return err
}

// FencePolicy is how this host would fence if it led now, with what the cluster's configuration says.
func (h *Host) FencePolicy(view *fsm.State) manager.Policy {
	pool, _ := view.Pool()
	return h.policy(pool).Under(view)
}
