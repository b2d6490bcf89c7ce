package apitest

import (
	"context"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// PowerDevices implements httpapi.Power.
func (f *Fake) PowerDevices(_ context.Context, host string) ([]api.PowerDevice, error) {
	return []api.PowerDevice{{Host: host, Name: "bmc", Type: api.PowerIPMI, Order: 1, Address: "10.1.0.3", User: "fence", HasSecret: true,
		Options: map[string]string{"cipher": "17"}, Proxies: []string{"h2"}, Updated: Now.Add(-time.Hour)}}, f.fail()
}

// SetPowerDevice implements httpapi.Power.
func (f *Fake) SetPowerDevice(_ context.Context, host, name string, r api.PowerDeviceSet, _ string) (api.PowerDevice, error) {
	return api.PowerDevice{Host: host, Name: name, Type: r.Type, Order: r.Order, Address: r.Address, Port: r.Port, User: r.User, HasSecret: r.Secret != "",
		Options: r.Options, Proxies: r.Proxies, Disabled: r.Disabled, Updated: Now}, f.fail()
}

// RemovePowerDevice implements httpapi.Power.
func (f *Fake) RemovePowerDevice(context.Context, string, string, string) error { return f.fail() }

// PowerStatus implements httpapi.Power.
func (f *Fake) PowerStatus(_ context.Context, host string) (api.PowerStatus, error) {
	return api.PowerStatus{Host: host, State: "on", Groups: []api.PowerGroup{
		{Order: 1, Devices: "bmc", Through: "h2", State: "unknown", Error: "the power device cannot be reached"},
		{Order: 2, Devices: "pdu-a,pdu-b", Through: "h2", State: "on"},
	}}, f.fail()
}

// PowerHealth implements httpapi.Power.
func (f *Fake) PowerHealth(_ context.Context, host, through string) (api.PowerHealth, error) {
	if through == "" {
		through = "h2"
	}
	return api.PowerHealth{Host: host, Through: through, OffWorks: true, OnWorks: true, Devices: []api.PowerDeviceHealth{
		{Name: "bmc", Order: 1, State: "unknown", Error: "the power device cannot be reached", Took: 2.5},
		{Name: "pdu-a", Order: 2, State: "on", Works: true, Took: 0.2},
	}}, f.fail()
}

// PowerOrder implements httpapi.Power.
func (f *Fake) PowerOrder(_ context.Context, host string, r api.PowerOrder, by string) (api.FenceOp, error) {
	op := fenceOp(host)
	op.Reason, op.By, op.ByPerson = r.Reason, by, true
	if r.Action != api.PowerFence {
		op.Action, op.Proven = r.Action, r.Action != api.PowerOn
	}
	return op, f.fail()
}

func fenceOp(host string) api.FenceOp {
	at := Now.Add(-10 * time.Minute)
	step := func(after time.Duration, rung, through, result, evidence string) api.FenceStep {
		return api.FenceStep{Rung: rung, Through: through, Term: 4, Leader: "h2", Time: at.Add(after), Result: result, Evidence: evidence}
	}
	steps := []api.FenceStep{
		step(0, "rpc", "", "failed", "it has not answered for 3s"),
		step(0, "storage", "", "skipped", "it does not hold the SPM lease, so there is nothing to ask it for"),
		step(0, "power_off", "h1", "intent", ""),
		step(2*time.Second, "power_off", "h1", "ok", "off: bmc off (1.2s); bmc status = off (0.1s) (through h1; status through h2: off)"),
	}
	steps[2].Device, steps[3].Device = "bmc", "bmc"
	return api.FenceOp{ID: "18a1b2c3d4e5f607-003", Host: host, HostID: 3, Generation: 2, Action: "restart", Reason: host + " does not answer", By: "manager",
		Began: at, Ended: at.Add(2 * time.Second), Outcome: "done", Detail: "off is confirmed", Leader: "h2", Term: 4, Proven: true, Steps: steps}
}

func fencing() api.Fencing {
	return api.Fencing{Enabled: true, GraceSeconds: 3, QuietSeconds: 60, SkipIfLive: true, SkipIfHalfDead: true, Restart: true, Armed: true, Open: []api.FenceOp{}}
}

// Fencing implements httpapi.Fencing.
func (f *Fake) Fencing(context.Context) (api.Fencing, error) { return fencing(), f.fail() }

// SetFencing implements httpapi.Fencing.
func (f *Fake) SetFencing(_ context.Context, r api.FencingSet, _ string) (api.Fencing, error) {
	out := fencing()
	take(&out.Enabled, r.Enabled)
	take(&out.GraceSeconds, r.GraceSeconds)
	take(&out.QuietSeconds, r.QuietSeconds)
	take(&out.SkipIfLive, r.SkipIfLive)
	take(&out.SkipIfHalfDead, r.SkipIfHalfDead)
	take(&out.Restart, r.Restart)
	return out, f.fail()
}

// DisarmFencing implements httpapi.Fencing.
func (f *Fake) DisarmFencing(_ context.Context, r api.FencingDisarm, by string) (api.Fencing, error) {
	out := fencing()
	out.Armed, out.DisarmedUntil, out.DisarmedBy = false, Now.Add(time.Duration(r.ForSeconds*float64(time.Second))), by+": "+r.Reason
	return out, f.fail()
}

// ArmFencing implements httpapi.Fencing.
func (f *Fake) ArmFencing(context.Context, string) (api.Fencing, error) { return fencing(), f.fail() }

// FenceHistory implements httpapi.Fencing.
func (f *Fake) FenceHistory(_ context.Context, host string, _ int) ([]api.FenceOp, error) {
	if host == "" {
		host = "h3"
	}
	return []api.FenceOp{fenceOp(host)}, f.fail()
}

// Powersave implements httpapi.Fencing.
func (f *Fake) Powersave(context.Context) (api.Powersave, error) {
	return api.Powersave{IdleSeconds: 1200}, f.fail()
}

// SetPowersave implements httpapi.Fencing.
func (f *Fake) SetPowersave(_ context.Context, r api.PowersaveSet, _ string) (api.Powersave, error) {
	out := api.Powersave{IdleSeconds: 1200}
	take(&out.Enabled, r.Enabled)
	take(&out.Reserve, r.Reserve)
	take(&out.IdleSeconds, r.IdleSeconds)
	return out, f.fail()
}

func take[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}
