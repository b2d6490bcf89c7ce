package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
)

// powerRules are those of errors about the power of hosts.
var powerRules = []errorRule{
	{manager.ErrHostRuns, api.CodeConflict, "holdfast host maintenance NAME, or --force, which ends what runs there"},
	{manager.ErrHostUntold, api.CodeConflict, "try again in a moment, or use --force, which ends what may run there"},
	{manager.ErrHostRenews, api.CodeConflict, "wait until storage says that it is dead, or use --force, which ends what runs there"},
	{manager.ErrHalfSilent, api.CodeConflict, "holdfast host list shows who does not answer; --force acts all the same"},
	{manager.ErrLeaderPower, api.CodeConflict, "holdfast operator raft transfer, and then again"},
	{manager.ErrSetting, api.CodeInvalid, "correct the value; nothing was changed"},
	{host.ErrNotMember, api.CodeNotMember, "holdfast init on the first host, holdfast join on every other"},
	{fencing.ErrUnreachable, api.CodeUnavailable, "see holdfast host list for who answers, and try again"},
	{fencing.ErrNoAgent, api.CodeConflict, "holdfast host power add gives it one; else wait until its lease is dead, or confirm its reboot by hand"},
	{join.ErrSealed, api.CodeConflict, "holdfast host power add with the secret sets it again"},
	{fsm.ErrDisarmed, api.CodeConflict, "holdfast fencing arm, or wait until the time is over"},
	{fsm.ErrFull, api.CodeLimit, ""},
	{fsm.ErrConflict, api.CodeConflict, "look again, and try again if need be"},
	{fsm.ErrStale, api.CodeConflict, "look again, and try again if need be"},
}

// settings changes how the manager fences and saves power; it works on any host.
func (b *backend) settings() (manager.Settings, *fsm.State, error) {
	n, err := b.node()
	if err != nil {
		return manager.Settings{}, nil, err
	}
	return manager.Settings{Cluster: n, Now: time.Now}, n.View(), nil
}

// leading is the manager of this host, which leads.
func (b *backend) leading() (*manager.Manager, error) {
	if _, _, err := b.pool(); err != nil {
		return nil, err
	}
	if m := b.host.Manager(); m != nil {
		return m, nil
	}
	return nil, apiError(manager.ErrNotLeading)
}

// PowerDevices lists the power devices of a host.
func (b *backend) PowerDevices(_ context.Context, host string) ([]api.PowerDevice, error) {
	st, err := b.state()
	if err != nil {
		return nil, err
	}
	if err := knownHostName(st, host); err != nil {
		return nil, err
	}
	var out []api.PowerDevice
	for _, d := range st.DevicesOf(host) {
		out = append(out, apiPowerDevice(d))
	}
	return out, nil
}

func knownHostName(st *fsm.State, host string) error {
	if st.Hosts.Has(host) {
		return nil
	}
	return api.Errorf(api.CodeNotFound, "holdfast host list shows the hosts", "no host is called %q", host)
}

func apiPowerDevice(d fsm.FenceDevice) api.PowerDevice {
	out := api.PowerDevice{Host: d.Host, Name: d.Name, Type: d.Type, Order: d.Order, Address: d.Address, Port: d.Port, User: d.User,
		HasSecret: len(d.Secret) > 0, Proxies: d.Proxies, Disabled: d.Disabled, Updated: unixTime(d.Updated)}
	for _, o := range d.Options {
		if out.Options == nil {
			out.Options = map[string]string{}
		}
		out.Options[o.Key] = o.Value
	}
	return out
}

// SetPowerDevice adds or replaces a power device. Its secret is sealed here, and goes no further in the clear.
func (b *backend) SetPowerDevice(ctx context.Context, name, device string, r api.PowerDeviceSet, by string) (api.PowerDevice, error) {
	set, st, err := b.settings()
	if err != nil {
		return api.PowerDevice{}, err
	}
	if err := knownHostName(st, name); err != nil {
		return api.PowerDevice{}, err
	}
	d := fsm.FenceDevice{Host: name, Name: device, Type: r.Type, Order: r.Order, Address: r.Address, Port: r.Port, User: r.User, Proxies: r.Proxies, Disabled: r.Disabled}
	for _, k := range slices.Sorted(maps.Keys(r.Options)) {
		d.Options = append(d.Options, fsm.Option{Key: k, Value: r.Options[k]})
	}
	check := r.Secret
	if r.Secret == "" {
		if old, ok := st.FenceDevices.Get(fsm.FenceDeviceKey(name, device)); ok && sameDoor(old, d) {
			d.Secret, check = old.Secret, "kept"
		}
	} else if d.Secret, err = b.host.SealSecret(name, device, r.Secret); err != nil {
		return api.PowerDevice{}, apiError(err)
	}
	if err := b.host.CheckDevice(d, check); err != nil {
		return api.PowerDevice{}, api.Errorf(api.CodeInvalid, "docs/power-devices.md has the types and their options", "%v", err)
	}
	if err := set.PutDevice(ctx, by, d); err != nil {
		return api.PowerDevice{}, apiError(err)
	}
	d.Updated = time.Now().UnixNano()
	return apiPowerDevice(d), nil
}

// sameDoor tells whether a device's secret would be sent to the same place by the same means: only then it is kept. Otherwise
// whoever may change a device could have its secret sent to themselves.
func sameDoor(a, b fsm.FenceDevice) bool {
	return a.Type == b.Type && a.Address == b.Address && a.Port == b.Port && a.User == b.User && slices.Equal(a.Options, b.Options)
}

// RemovePowerDevice forgets a power device.
func (b *backend) RemovePowerDevice(ctx context.Context, host, name, by string) error {
	set, st, err := b.settings()
	if err != nil {
		return err
	}
	if err := knownHostName(st, host); err != nil {
		return err
	}
	return apiError(set.RemoveDevice(ctx, by, host, name))
}

// PowerStatus asks the power devices of a host; it runs on the leader.
func (b *backend) PowerStatus(ctx context.Context, host string) (api.PowerStatus, error) {
	m, err := b.leading()
	if err != nil {
		return api.PowerStatus{}, err
	}
	groups, err := m.PowerStatus(ctx, host)
	if err != nil {
		return api.PowerStatus{}, apiError(err)
	}
	out := api.PowerStatus{Host: host, State: string(fencing.Unknown)}
	for _, g := range groups {
		out.Groups = append(out.Groups, api.PowerGroup{Order: g.Order, Devices: g.Devices, Through: g.Proxy, State: string(g.State), Detail: g.Detail, Error: g.Error})
		if out.State == string(fencing.Unknown) {
			out.State = string(g.State)
		}
	}
	return out, nil
}

// PowerHealth looks which power actions would work; it runs on the leader.
func (b *backend) PowerHealth(ctx context.Context, host, through string) (api.PowerHealth, error) {
	m, err := b.leading()
	if err != nil {
		return api.PowerHealth{}, err
	}
	through, h, err := m.PowerHealth(ctx, host, through)
	if err != nil {
		return api.PowerHealth{}, apiError(err)
	}
	out := api.PowerHealth{Host: host, Through: through, OffWorks: h.Off, OnWorks: h.On}
	for _, d := range h.Devices {
		out.Devices = append(out.Devices, api.PowerDeviceHealth{Name: d.Name, Order: d.Order, State: string(d.State), Works: d.Works, Error: d.Error, Took: d.Took.Seconds()})
	}
	return out, nil
}

// orderMargin is what is left of a request's time to answer in, when an operation takes longer.
const orderMargin = 2 * time.Second

// PowerOrder fences a host or switches its power; it runs on the leader.
func (b *backend) PowerOrder(ctx context.Context, host string, r api.PowerOrder, by string) (api.FenceOp, error) {
	m, err := b.leading()
	if err != nil {
		return api.FenceOp{}, err
	}
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-orderMargin))
		defer cancel()
	}
	op, err := m.Order(ctx, manager.PowerOrder{Host: host, Action: r.Action, Reason: r.Reason, By: by, Force: r.Force})
	if err != nil {
		return api.FenceOp{}, apiError(err)
	}
	return apiFenceOp(op), nil
}

func apiFenceOp(o fsm.FenceOp) api.FenceOp {
	out := api.FenceOp{ID: o.ID, Host: o.Host, HostID: o.HostID, Generation: o.Generation, Action: o.Action, Reason: o.Reason, By: o.By, ByPerson: o.ByPerson,
		Began: unixTime(o.Began), Outcome: o.Outcome, Detail: o.Detail, Leader: o.Leader, Term: o.Term, Proven: o.ProofGeneration != 0, Steps: []api.FenceStep{}}
	if o.Ended != 0 {
		out.Ended = unixTime(o.Ended)
	}
	for _, s := range o.Steps {
		out.Steps = append(out.Steps, api.FenceStep{Rung: s.Rung, Device: s.Device, Through: s.Proxy, Term: s.Term, Leader: s.Leader, Time: unixTime(s.Time),
			Result: s.Result, Evidence: s.Evidence})
	}
	return out
}
