package host

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// InitRequest makes a cluster with its pool.
type InitRequest struct {
	Pool    string   // name of the pool
	Profile string   // compatible, fast or dev; empty takes the configuration's
	Devices []string // LUNs of the master domain
	Domain  string   // name of the master domain; empty: "master"
	Force   string   // name of what may be destroyed, as the refusal gave it
	Test    bool     // faults may be injected into the pool
}

// Member is what became of Init, Join or Leave.
type Member struct {
	Host   string
	HostID int
	Pool   string // UUID
	Domain string // UUID of the master domain
	Token  string // for the next host to join; of Init only
}

// firstTokenTTL is how long the join token that Init gives is good for.
const firstTokenTTL = time.Hour

// Init makes this host the first of a new cluster, with a pool and its master domain. The disks come first: what can be
// refused is refused before there is a cluster.
func (h *Host) Init(ctx context.Context, req InitRequest) (Member, error) {
	h.setup.Lock()
	defer h.setup.Unlock()
	if cluster.IsMember(h.cfg.Cluster.DataDir) {
		return Member{}, cluster.ErrAlreadyMember
	}
	if len(req.Devices) == 0 {
		return Member{}, fmt.Errorf("%w: name at least one LUN for the pool's master domain, which holds the SPM lease", fsm.ErrInvalid)
	}
	if req.Profile == "" {
		req.Profile = h.cfg.Profile
	}
	profile, err := leases.ProfileByName(req.Profile)
	if err != nil {
		return Member{}, fmt.Errorf("%w: %w", fsm.ErrInvalid, err)
	}
	pool := fsm.Pool{ID: uuid.NewString(), Name: req.Pool, Profile: profile.Name, Test: req.Test}
	master, err := h.format(ctx, formatRequest{
		pool: pool, profile: profile, master: true, name: firstOf(req.Domain, "master"), devices: req.Devices, force: req.Force,
	})
	if err != nil {
		return Member{}, err
	}
	pool.Master = master.ID
	return h.found(ctx, pool, master)
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// found makes the cluster and records pool and domain in it.
func (h *Host) found(ctx context.Context, pool fsm.Pool, master fsm.Domain) (Member, error) {
	node, err := cluster.Bootstrap(ctx, h.cfg.Cluster, pool.Name)
	if err != nil {
		return Member{}, fmt.Errorf("making the cluster: %w", err)
	}
	if err := h.adopt(ctx, node); err != nil {
		return Member{}, err
	}
	if err := h.record(ctx, node, pool, master); err != nil {
		return Member{}, err
	}
	_, token, err := h.CreateToken(ctx, fsm.TokenJoin, firstTokenTTL)
	if err != nil {
		return Member{}, err
	}
	m := h.member(node)
	m.Token = token
	return m, nil
}

// record puts pool and master domain into the mirror. The domain goes first: a pool that names a master has it.
func (h *Host) record(ctx context.Context, node *cluster.Node, pool fsm.Pool, master fsm.Domain) error {
	if err := await(ctx, node, func(st *fsm.State) bool { return st.Initialised() }); err != nil {
		return fmt.Errorf("waiting for the first leader: %w", err)
	}
	if err := apply(ctx, node, &fsm.DomainPut{Domain: master}); err != nil {
		return fmt.Errorf("recording the master domain: %w", err)
	}
	if err := apply(ctx, node, &fsm.PoolCreate{Pool: pool, Time: time.Now().UnixNano()}); err != nil {
		return fmt.Errorf("recording the pool: %w", err)
	}
	return nil
}

// applier commits commands.
type applier interface {
	Apply(ctx context.Context, c fsm.Command) (fsm.Outcome, error)
}

// apply commits a command; its refusal is an error.
func apply(ctx context.Context, a applier, c fsm.Command) error {
	out, err := a.Apply(ctx, c)
	if err != nil {
		return err
	}
	return out.Err()
}

// adopt hands a new node to Run.
func (h *Host) adopt(ctx context.Context, node *cluster.Node) error {
	h.mu.Lock()
	m := newMembership(h.runCtx, node)
	h.current = m
	h.mu.Unlock()
	select {
	case h.adopted <- m:
		return nil
	case <-ctx.Done():
		h.set(func() { h.current = nil })
		return errors.Join(fmt.Errorf("the host does not run: %w", ctx.Err()), node.Close())
	}
}

// Join makes this host a member of an existing cluster.
func (h *Host) Join(ctx context.Context, address, token string) (Member, error) {
	h.setup.Lock()
	defer h.setup.Unlock()
	if cluster.IsMember(h.cfg.Cluster.DataDir) {
		return Member{}, cluster.ErrAlreadyMember
	}
	node, err := cluster.Join(ctx, h.cfg.Cluster, address, token)
	if err != nil {
		return Member{}, err
	}
	if err := h.adopt(ctx, node); err != nil {
		return Member{}, err
	}
	if err := await(ctx, node, func(st *fsm.State) bool { return st.Hosts.Has(node.Name()) }); err != nil {
		return Member{}, fmt.Errorf("joined, but the cluster's state has not arrived yet; it will: %w", err)
	}
	return h.member(node), nil
}

// await waits until this host's copy of the state shows something.
func await(ctx context.Context, node *cluster.Node, shows func(*fsm.State) bool) error {
	for {
		ch := node.Changed()
		if shows(node.View()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ch:
		}
	}
}

// member describes this host's membership.
func (h *Host) member(node *cluster.Node) Member {
	st := node.View()
	pool, _ := st.Pool()
	return Member{Host: h.cfg.Cluster.Name, HostID: node.HostID(), Pool: pool.ID, Domain: pool.Master}
}

// Leave takes this host out of its cluster: its storage goes down and frees its leases, which is the proof that it can
// write no more; then its membership ends.
func (h *Host) Leave(ctx context.Context) (Member, error) {
	h.setup.Lock()
	defer h.setup.Unlock()
	h.mu.Lock()
	m := h.current
	h.mu.Unlock()
	if m == nil {
		return Member{}, cluster.ErrNotMember
	}
	out := h.member(m.node)
	if m.node.View().Hosts.Len() <= 1 {
		return Member{}, cluster.ErrLastHost
	}
	m.storageStop()
	select {
	case <-m.storageDown:
	case <-ctx.Done():
		return Member{}, fmt.Errorf("waiting for this host's storage to go down: %w", ctx.Err())
	}
	if err := m.node.Leave(ctx, "it released its leases and left"); err != nil {
		return Member{}, err
	}
	m.cancel(errLeft)
	select {
	case <-m.ended:
	case <-ctx.Done():
	}
	return out, nil
}

// CreateToken makes a token and returns its record and its text, which is kept nowhere.
func (h *Host) CreateToken(ctx context.Context, role string, ttl time.Duration) (fsm.Token, string, error) {
	node := h.Node()
	if node == nil {
		return fsm.Token{}, "", cluster.ErrNotMember
	}
	if role == "" {
		role = fsm.TokenJoin
	}
	if ttl <= 0 {
		ttl = firstTokenTTL
	}
	return node.CreateToken(ctx, role, ttl)
}

// allowed checks a device against the allow-list, whose paths may be shell patterns.
func (h *Host) allowed(device string) error { return h.cfg.allowed(device) }

func (c Config) allowed(device string) error {
	if len(c.Devices) == 0 {
		return nil
	}
	for _, pattern := range c.Devices {
		if ok, _ := filepath.Match(pattern, device); ok || pattern == device {
			return nil
		}
	}
	return fmt.Errorf("%w: device %s is not in the allow-list of this host's configuration (devices)", fsm.ErrInvalid, device)
}
