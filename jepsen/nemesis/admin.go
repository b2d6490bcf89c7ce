package nemesis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// view is what the hosts say of themselves.
type view struct {
	spm, leader string            // empty: nobody knows one
	alive       []string          // those that answered, in the order of Hosts
	address     map[string]string // of their cluster ports
}

// admin asks and commands the pool, as an operator would.
type admin interface {
	look(ctx context.Context) view
	moveSPM(ctx context.Context, via, to string) error
	transfer(ctx context.Context, via, to string) error
	powerOff(ctx context.Context, via, host string) error
	leave(ctx context.Context, host string) error
	join(ctx context.Context, host string) error
}

// viaClients is the admin of a cluster.
type viaClients struct{ c Cluster }

const (
	lookTime    = time.Second
	commandTime = 20 * time.Second
)

// look asks all hosts at once. The highest epoch and the highest term count.
func (a viaClients) look(ctx context.Context) view {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	hosts := a.c.Hosts()
	answers := make([]*api.Status, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			if st, _, err := a.c.Client(h).Status(ctx, client.Read{}); err == nil {
				answers[i] = &st
			}
		})
	}
	wg.Wait()
	return sum(hosts, answers)
}

func sum(hosts []string, answers []*api.Status) view {
	v := view{address: map[string]string{}}
	var epoch, term uint64
	for i, st := range answers {
		if st == nil {
			continue
		}
		v.alive = append(v.alive, hosts[i])
		if st.SPM.Host != "" && st.SPM.Epoch >= epoch {
			v.spm, epoch = st.SPM.Host, st.SPM.Epoch
		}
		if st.Raft.Leader != "" && st.Raft.Term >= term {
			v.leader, term = st.Raft.Leader, st.Raft.Term
		}
		for _, h := range st.Hosts {
			v.address[h.Name] = h.Address
		}
	}
	return v
}

func (a viaClients) moveSPM(ctx context.Context, via, to string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	if _, err := a.c.Client(via).MoveSPM(ctx, api.SPMMove{To: to, Reason: "fault injection"}); err != nil {
		return fmt.Errorf("moving the role to %s: %w", to, err)
	}
	return nil
}

func (a viaClients) transfer(ctx context.Context, via, to string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	if _, err := a.c.Client(via).TransferLeadership(ctx, api.RaftTransfer{To: to}); err != nil {
		return fmt.Errorf("making %s the leader: %w", to, err)
	}
	return nil
}

func (a viaClients) leave(ctx context.Context, host string) error {
	if _, err := a.c.Client(host).Leave(ctx, api.Leave{}); err != nil {
		return fmt.Errorf("letting %s leave: %w", host, err)
	}
	return nil
}

// join lets a host in again that has left; one that is a member stays as it is.
func (a viaClients) join(ctx context.Context, host string) error {
	h, err := a.c.Client(host).Health(ctx)
	if err != nil {
		return fmt.Errorf("asking %s whether it is a member: %w", host, err)
	}
	if h.Member {
		return nil
	}
	v := a.look(ctx)
	i := slices.IndexFunc(v.alive, func(h string) bool { return h != host && v.address[h] != "" })
	if i < 0 {
		return errors.New("no member answers that could let " + host + " in")
	}
	tok, err := a.c.Client(v.alive[i]).CreateToken(ctx, api.TokenCreate{Role: api.RoleJoin})
	if err != nil {
		return fmt.Errorf("making a token for %s: %w", host, err)
	}
	if _, err := a.c.Client(host).Join(ctx, api.Join{Address: v.address[v.alive[i]], Token: tok.Secret}); err != nil {
		return fmt.Errorf("letting %s join: %w", host, err)
	}
	return nil
}

// allMembers lets everybody in who has left.
func allMembers(ctx context.Context, a admin, hosts []string) error {
	var errs []error
	for _, h := range hosts {
		errs = append(errs, a.join(ctx, h))
	}
	return errors.Join(errs...)
}
