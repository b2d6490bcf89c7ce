package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// patience is how long a person in a scenario waits for what they asked for.
const patience = 10 * time.Second

// operate begins what a person does and writes down what they are told. Args are those of the command line: "maintenance b --force".
func (p *scenarioPool) operate(ctx context.Context, args []string) error {
	if len(p.leaders) == 0 {
		return errors.New("nobody leads")
	}
	m := p.leaders[len(p.leaders)-1].m
	force := slices.Contains(args, "--force")
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--force" })
	verb, ok := operatorVerbs[args[0]]
	if !ok {
		return fmt.Errorf("an operator has no verb %q", args[0])
	}
	what := strings.Join(args, " ")
	if force {
		what += " --force"
	}
	p.people.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		got, err := verb(p, ctx, m, append(args[1:], "", ""), force)
		if err != nil {
			got = "refused: " + err.Error()
		}
		p.say("operator", "%s: %s", what, withoutTimes(got))
	})
	return nil
}

// operatorVerbs are what a person can do. They return what they are told.
var operatorVerbs = map[string]func(p *scenarioPool, ctx context.Context, m *Manager, a []string, force bool) (string, error){
	"maintenance": func(_ *scenarioPool, ctx context.Context, m *Manager, a []string, force bool) (string, error) {
		h, err := m.Maintain(ctx, MaintenanceRequest{Host: a[0], By: "ann", Force: force, Wait: patience / 2})
		return h.State, err
	},
	"activate": func(_ *scenarioPool, ctx context.Context, m *Manager, a []string, _ bool) (string, error) {
		h, err := m.Activate(ctx, ActivateRequest{Host: a[0], By: "ann", Wait: patience / 2})
		return h.State, err
	},
	"priority": func(_ *scenarioPool, ctx context.Context, m *Manager, a []string, _ bool) (string, error) {
		n, err := strconv.Atoi(a[1])
		if err != nil {
			return "", err
		}
		_, err = m.SetPriority(ctx, a[0], n, "ann")
		return "set", err
	},
	"spm": operateSPM,
	"confirm-rebooted": func(_ *scenarioPool, ctx context.Context, m *Manager, a []string, force bool) (string, error) {
		_, err := m.ConfirmRebooted(ctx, Confirmation{Host: a[0], Reason: "I pulled its plugs", By: "ann", Force: force})
		return "recorded", err
	},
	"fence":   power(ActionFence),
	"off":     power(fsm.FenceOff),
	"on":      power(fsm.FenceOn),
	"restart": power(fsm.FenceRestart),
	"disarm": func(p *scenarioPool, ctx context.Context, _ *Manager, a []string, _ bool) (string, error) {
		d, err := time.ParseDuration(a[0])
		if err != nil {
			return "", err
		}
		_, err = Settings{Cluster: p, Now: time.Now}.Disarm(ctx, "ann", "new switches", d)
		return "disarmed", err
	},
	"arm": func(p *scenarioPool, ctx context.Context, _ *Manager, _ []string, _ bool) (string, error) {
		return "armed", Settings{Cluster: p, Now: time.Now}.Arm(ctx, "ann")
	},
	"save-power": func(p *scenarioPool, ctx context.Context, _ *Manager, a []string, _ bool) (string, error) {
		on, idle := a[0] == "on", 10*time.Second
		return "set", Settings{Cluster: p, Now: time.Now}.Powersave(ctx, "ann", PowersaveSettings{Enabled: &on, Idle: &idle})
	},
	"activate-domain": func(_ *scenarioPool, ctx context.Context, m *Manager, a []string, _ bool) (string, error) {
		d, err := m.ActivateDomain(ctx, DomainWish{Domain: domainNames[a[0]], By: "ann"})
		return d.CurrentStatus(), err
	},
	"deactivate-domain": func(_ *scenarioPool, ctx context.Context, m *Manager, a []string, _ bool) (string, error) {
		d, err := m.DeactivateDomain(ctx, DomainWish{Domain: domainNames[a[0]], By: "ann"})
		return d.CurrentStatus(), err
	},
	"reconstruct": func(_ *scenarioPool, ctx context.Context, m *Manager, a []string, _ bool) (string, error) {
		r := Reconstruction{Domain: domainNames[a[0]], By: "ann", Reason: "the array burnt"}
		if a[1] != "" {
			r.Dead = []string{a[1]}
		}
		_, err := m.ReconstructMaster(ctx, r)
		for _, why := range []error{ErrMasterNotProven, ErrMasterReadable} {
			if errors.Is(err, why) { // which host is named first differs
				return "", why
			}
		}
		return "done", err
	},
}

func operateSPM(p *scenarioPool, ctx context.Context, m *Manager, a []string, _ bool) (string, error) {
	o := Operator{Cluster: p, Now: time.Now, Status: m.Status}
	var s fsm.SPM
	var err error
	switch a[0] {
	case "move":
		s, err = o.Move(ctx, a[1])
	case "stop":
		s, err = o.Stop(ctx)
	case "start":
		s, err = o.Start(ctx, a[1])
	case "status":
		st, _ := m.Status()
		got := string(st.Row)
		if st.Host != "" {
			got += "; " + st.Host
		}
		if st.Awaits != "" {
			got += "; awaits " + st.Awaits
		}
		return got, nil
	default:
		return "", fmt.Errorf("spm %q", a[0])
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(s.State + " " + s.Host), nil
}

// power is an order about a host's power.
func power(action string) func(*scenarioPool, context.Context, *Manager, []string, bool) (string, error) {
	return func(_ *scenarioPool, ctx context.Context, m *Manager, a []string, force bool) (string, error) {
		op, err := m.Order(ctx, PowerOrder{Host: a[0], Action: action, Reason: "work", By: "ann", Force: force})
		if op.Outcome == "" {
			return "under way", err
		}
		return op.Outcome, err
	}
}
