package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// askTime bounds one question to an agent.
const askTime = 5 * time.Second

// Form starts all hosts, makes cluster, pool and master domain, lets the others join and waits until all are up.
func (p *Pool) Form(ctx context.Context) error {
	for _, h := range p.hosts {
		if err := p.Start(ctx, h.name); err != nil {
			return err
		}
	}
	first := p.hosts[0]
	if _, err := first.client.Init(ctx, api.Init{Pool: "jepsen", Profile: first.conf.Profile, Devices: []string{first.lun}}); err != nil {
		return fmt.Errorf("making the pool: %w", err)
	}
	for _, h := range p.hosts[1:] {
		if err := p.Join(ctx, h.name, first.name); err != nil {
			return err
		}
	}
	if err := p.AwaitUp(ctx); err != nil || !p.cfg.Fencing {
		return err
	}
	return p.addPower(ctx)
}

// Join makes a running host that belongs to no cluster a member, with a token that another host gives out.
func (p *Pool) Join(ctx context.Context, name, through string) error {
	h, err := p.host(name)
	if err != nil {
		return err
	}
	other, err := p.host(through)
	if err != nil {
		return err
	}
	tok, err := other.client.CreateToken(ctx, api.TokenCreate{Role: api.RoleJoin})
	if err == nil {
		_, err = h.client.Join(ctx, api.Join{Address: other.conf.Cluster.Listen, Token: tok.Secret})
	}
	if err != nil {
		return fmt.Errorf("joining %s through %s: %w", name, through, err)
	}
	return nil
}

// AwaitUp waits until every host is well and could be SPM by the word of each, one is, and all know who leads.
func (p *Pool) AwaitUp(ctx context.Context) error {
	return poll(ctx, "every host is up", func() error {
		for _, h := range p.hosts {
			if err := h.seesAllUp(ctx, len(p.hosts)); err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
		}
		return nil
	})
}

// seesAllUp asks one host.
func (h *host) seesAllUp(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	st, _, err := h.client.Status(ctx, client.Read{})
	if err != nil {
		return err
	}
	if st.SPM.State != api.SPMServing || st.Raft.Leader == "" {
		return errors.New("nobody is SPM, or nobody leads")
	}
	if len(st.Hosts) != n {
		return fmt.Errorf("it knows %d hosts, not %d", len(st.Hosts), n)
	}
	for _, m := range st.Hosts {
		if m.State != api.HostUp || !m.Alive {
			return fmt.Errorf("%s is %s", m.Name, m.State)
		}
	}
	if health, err := h.client.Health(ctx); err != nil || !health.OK {
		return errors.Join(err, errors.New(health.Reason))
	}
	return nil
}
