package httpapi

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
)

// Power looks at and switches the power of hosts.
type Power interface {
	// PowerDevices lists the devices of a host from the mirror.
	PowerDevices(ctx context.Context, host string) ([]api.PowerDevice, error)
	// SetPowerDevice and RemovePowerDevice run on the host that was asked: the secret goes no further in the clear.
	SetPowerDevice(ctx context.Context, host, name string, req api.PowerDeviceSet, by string) (api.PowerDevice, error)
	RemovePowerDevice(ctx context.Context, host, name, by string) error
	// PowerStatus, PowerHealth and PowerOrder run on the leader, which chooses through whom. An order that has not ended when ctx
	// does goes on; the answer has no outcome then.
	PowerStatus(ctx context.Context, host string) (api.PowerStatus, error)
	PowerHealth(ctx context.Context, host, through string) (api.PowerHealth, error)
	PowerOrder(ctx context.Context, host string, req api.PowerOrder, by string) (api.FenceOp, error)
}

// maxPowerText bounds addresses, users, options and secrets of power devices.
const maxPowerText = 1024

func listPowerDevices(b *Backend, r *http.Request) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	return mirrored(b, r, b.Power, func(ctx context.Context) ([]api.PowerDevice, error) {
		l, err := b.Power.PowerDevices(ctx, name)
		return noNil(l), err
	})
}

// checkPowerDevice refuses what can never be a device; what a type demands, the backend knows.
func checkPowerDevice(d api.PowerDeviceSet) error {
	types := []string{api.PowerIPMI, api.PowerRedfish, api.PowerExec, api.PowerProcess, api.PowerNone}
	if !slices.Contains(types, d.Type) {
		return invalid("use one of "+strings.Join(types, ", "), "there is no power device of type %q", d.Type)
	}
	for what, text := range map[string]string{"address": d.Address, "user": d.User} {
		if err := checkText(what, text, maxPowerText); err != nil {
			return err
		}
	}
	if len(d.Secret) > maxPowerText || strings.ContainsAny(d.Secret, "\x00\n\r") {
		return invalid("give its first line alone", "the secret must be one line of at most %d bytes", maxPowerText)
	}
	for k, v := range d.Options {
		if err := checkText("option "+k, v, maxPowerText); err != nil {
			return err
		}
	}
	return nil
}

func setPowerDevice(b *Backend, r *http.Request) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	device, err := pathVar(r, "device")
	if err != nil {
		return reply{}, err
	}
	var req api.PowerDeviceSet
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkPowerDevice(req); err != nil {
		return reply{}, err
	}
	if b.Power == nil {
		return reply{}, notMember()
	}
	d, err := b.Power.SetPowerDevice(r.Context(), name, device, req, identityOf(r.Context()).Name)
	return reply{body: d}, err
}

func removePowerDevice(b *Backend, r *http.Request) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	device, err := pathVar(r, "device")
	if err != nil {
		return reply{}, err
	}
	if b.Power == nil {
		return reply{}, notMember()
	}
	return reply{status: http.StatusNoContent}, b.Power.RemovePowerDevice(r.Context(), name, device, identityOf(r.Context()).Name)
}

func getPower(b *Backend, r *http.Request) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	if b.Power == nil {
		return reply{}, notMember()
	}
	st, err := b.Power.PowerStatus(r.Context(), name)
	st.Groups = noNil(st.Groups)
	return reply{body: st}, err
}

func getPowerHealth(b *Backend, r *http.Request) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	if b.Power == nil {
		return reply{}, notMember()
	}
	if err := checkQuery(r, "through"); err != nil {
		return reply{}, err
	}
	h, err := b.Power.PowerHealth(r.Context(), name, r.URL.Query().Get("through"))
	h.Devices = noNil(h.Devices)
	return reply{body: h}, err
}

func orderPower(b *Backend, r *http.Request) (reply, error) {
	name, err := pathVar(r, "name")
	if err != nil {
		return reply{}, err
	}
	var req api.PowerOrder
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	actions := []string{api.PowerFence, api.PowerOff, api.PowerOn, api.PowerRestart}
	if !slices.Contains(actions, req.Action) {
		return reply{}, invalid("use one of "+strings.Join(actions, ", "), "there is no power action %q", req.Action)
	}
	if err := checkText("reason", req.Reason, maxReason); err != nil {
		return reply{}, err
	}
	if req.Action == api.PowerFence && strings.TrimSpace(req.Reason) == "" {
		return reply{}, invalid("say why, for the pool's history", "reason is missing")
	}
	if b.Power == nil {
		return reply{}, notMember()
	}
	op, err := b.Power.PowerOrder(r.Context(), name, req, identityOf(r.Context()).Name)
	op.Steps = noNil(op.Steps)
	return reply{body: op}, err
}

// Fencing shows and changes how hosts are fenced, and how power is saved.
type Fencing interface {
	Fencing(ctx context.Context) (api.Fencing, error)
	SetFencing(ctx context.Context, req api.FencingSet, by string) (api.Fencing, error)
	DisarmFencing(ctx context.Context, req api.FencingDisarm, by string) (api.Fencing, error)
	ArmFencing(ctx context.Context, by string) (api.Fencing, error)
	// FenceHistory lists operations, the newest first; of one host, or of all when host is empty.
	FenceHistory(ctx context.Context, host string, limit int) ([]api.FenceOp, error)
	Powersave(ctx context.Context) (api.Powersave, error)
	SetPowersave(ctx context.Context, req api.PowersaveSet, by string) (api.Powersave, error)
}

func getFencing(b *Backend, r *http.Request) (reply, error) {
	return mirrored(b, r, b.Fencing, func(ctx context.Context) (api.Fencing, error) { return b.Fencing.Fencing(ctx) })
}

// checkSeconds refuses what is no number of seconds; its bounds the backend knows.
func checkSeconds(what string, v *float64) error {
	if v != nil && (math.IsNaN(*v) || *v < 0 || *v > 1e9) {
		return invalid("give seconds, 0 for the default", "%s is %g", what, *v)
	}
	return nil
}

func setFencing(b *Backend, r *http.Request) (reply, error) {
	var req api.FencingSet
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if (req == api.FencingSet{}) {
		return reply{}, invalid("name at least one", "no setting is given")
	}
	for what, v := range map[string]*float64{"grace_seconds": req.GraceSeconds, "quiet_seconds": req.QuietSeconds} {
		if err := checkSeconds(what, v); err != nil {
			return reply{}, err
		}
	}
	if b.Fencing == nil {
		return reply{}, notMember()
	}
	f, err := b.Fencing.SetFencing(r.Context(), req, identityOf(r.Context()).Name)
	return reply{body: f}, err
}

func disarmFencing(b *Backend, r *http.Request) (reply, error) {
	var req api.FencingDisarm
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkText("reason", req.Reason, maxReason); err != nil {
		return reply{}, err
	}
	if strings.TrimSpace(req.Reason) == "" {
		return reply{}, invalid("say why, for the pool's history", "reason is missing")
	}
	if err := checkSeconds("for_seconds", &req.ForSeconds); err != nil {
		return reply{}, err
	}
	if b.Fencing == nil {
		return reply{}, notMember()
	}
	f, err := b.Fencing.DisarmFencing(r.Context(), req, identityOf(r.Context()).Name)
	return reply{body: f}, err
}

func armFencing(b *Backend, r *http.Request) (reply, error) {
	if b.Fencing == nil {
		return reply{}, notMember()
	}
	f, err := b.Fencing.ArmFencing(r.Context(), identityOf(r.Context()).Name)
	return reply{body: f}, err
}

func getFenceHistory(b *Backend, r *http.Request) (reply, error) {
	limit := maxFences
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxFences {
			return reply{}, invalid("", "limit %q is not between 1 and %d", s, maxFences)
		}
		limit = n
	}
	return mirrored(b, r, b.Fencing, func(ctx context.Context) ([]api.FenceOp, error) {
		l, err := b.Fencing.FenceHistory(ctx, r.URL.Query().Get("host"), limit)
		return noNil(l), err
	}, "host", "limit")
}

// maxFences is how many operations a list has at most.
const maxFences = 256

func getPowersave(b *Backend, r *http.Request) (reply, error) {
	return mirrored(b, r, b.Fencing, func(ctx context.Context) (api.Powersave, error) { return b.Fencing.Powersave(ctx) })
}

func setPowersave(b *Backend, r *http.Request) (reply, error) {
	var req api.PowersaveSet
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if (req == api.PowersaveSet{}) {
		return reply{}, invalid("name at least one", "no setting is given")
	}
	if err := checkSeconds("idle_seconds", req.IdleSeconds); err != nil {
		return reply{}, err
	}
	if b.Fencing == nil {
		return reply{}, notMember()
	}
	p, err := b.Fencing.SetPowersave(r.Context(), req, identityOf(r.Context()).Name)
	return reply{body: p}, err
}
