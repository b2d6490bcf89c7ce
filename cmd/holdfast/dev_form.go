package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

const (
	// formTimeout bounds the way from the first process to a pool that serves. A pool whose last SPM was killed with
	// its supervisor waits for that lease first; with slow profiles that is minutes.
	formTimeout = 5 * time.Minute
	// formPoll is the time between two looks at what is being waited for.
	formPoll = 20 * time.Millisecond
	// devPoolName is the name of a dev pool.
	devPoolName = "dev"
)

// form brings the pool up: on an empty directory it makes cluster, pool and master domain and lets the other hosts
// join; what exists already is left alone, so an interrupted first start is finished by the next one.
func (p *devPool) form(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	clients, err := p.clients()
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	if err := p.bringUp(ctx, clients); err != nil {
		return fmt.Errorf("forming the pool: %w%s", err, p.lastWords())
	}
	if !p.st.Formed {
		p.st.Formed = true
		return p.st.save(p.o.DataDir)
	}
	return nil
}

// clients has one client for each host.
func (p *devPool) clients() ([]*client.Client, error) {
	var cs []*client.Client
	for _, m := range p.st.Hosts {
		c, err := client.New(client.Config{Address: m.url()})
		if err != nil {
			return nil, fmt.Errorf("making a client for %s: %w", m.Name, err)
		}
		cs = append(cs, c)
	}
	return cs, nil
}

// bringUp makes every host a member and waits until volumes can be created.
func (p *devPool) bringUp(ctx context.Context, clients []*client.Client) error {
	for i, c := range clients {
		member, err := p.awaitAgent(ctx, c, p.st.Hosts[i])
		if err != nil {
			return fmt.Errorf("host %s: %w", p.st.Hosts[i].Name, err)
		}
		if member {
			continue
		}
		if i == 0 {
			err = p.initPool(ctx, c)
		} else {
			err = p.joinHost(ctx, clients[0], c)
		}
		if err != nil {
			return fmt.Errorf("host %s: %w", p.st.Hosts[i].Name, err)
		}
	}
	if err := ensureMaster(ctx, clients[0], p.st.LUN); err != nil {
		return err
	}
	return p.awaitServing(ctx, clients)
}

// awaitAgent waits until an agent answers, and says whether it belongs to a cluster. Its files know that before it
// has read them.
func (p *devPool) awaitAgent(ctx context.Context, c *client.Client, m devMember) (member bool, err error) {
	err = poll(ctx, "the agent answers", func() error {
		h, err := c.Health(ctx)
		if err != nil {
			return err
		}
		if member = h.Member; !member && cluster.IsMember(p.hostDir(m)) {
			return errors.New("it has not opened its membership yet")
		}
		return nil
	})
	return member, err
}

// initPool makes the cluster, the pool and its master domain on the first host. A LUN file that an interrupted first
// start left behind is emptied: this supervisor made it, and no pool has ever been complete on it.
func (p *devPool) initPool(ctx context.Context, c *client.Client) error {
	if p.st.Formed {
		return fmt.Errorf("it has lost its membership, but the pool in %s was complete: restore its data directory",
			p.o.DataDir)
	}
	if p.st.OwnLUN {
		if err := emptyLUN(p.st.LUN); err != nil {
			return err
		}
	}
	req := api.Init{Pool: devPoolName, Profile: p.st.Profile, Devices: []string{p.st.LUN}, TestPool: true}
	if _, err := c.Init(ctx, req); err != nil {
		return fmt.Errorf("making the pool: %w", err)
	}
	return nil
}

// emptyLUN throws a sparse file's content away and keeps its size.
func emptyLUN(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("looking at the LUN file: %w", err)
	}
	if err := errors.Join(os.Truncate(path, 0), os.Truncate(path, fi.Size())); err != nil {
		return fmt.Errorf("emptying the LUN file: %w", err)
	}
	return nil
}

// joinHost makes a token on the first host and lets another one join with it.
func (p *devPool) joinHost(ctx context.Context, first, c *client.Client) error {
	var tok api.TokenCreated
	err := poll(ctx, "the first host gives out a token", func() (err error) {
		tok, err = first.CreateToken(ctx, api.TokenCreate{Role: api.RoleJoin})
		return err
	})
	if err != nil {
		return err
	}
	_, err = c.Join(ctx, api.Join{Address: loopback(p.st.Hosts[0].Cluster), Token: tok.Secret})
	if err != nil {
		return fmt.Errorf("joining: %w", err)
	}
	return nil
}

// ensureMaster makes the master domain where a start was interrupted between pool and domain.
func ensureMaster(ctx context.Context, c *client.Client, lun string) error {
	var st api.Status
	err := poll(ctx, "the pool is known", func() (err error) {
		st, _, err = c.Status(ctx, client.Read{})
		if err == nil && st.Pool.ID == "" {
			err = errors.New("the first host knows no pool yet")
		}
		return err
	})
	if err != nil || st.Pool.Master != "" || len(st.Domains) > 0 {
		return err
	}
	if _, err := c.CreateDomain(ctx, api.DomainCreate{Name: "master", Devices: []string{lun}}); err != nil {
		return fmt.Errorf("making the master domain: %w", err)
	}
	return nil
}

// awaitServing waits until every host works and the SPM serves, and takes what dev.json says from that answer. A role
// older than this supervisor is what the mirror remembers of an earlier run, and does not count.
func (p *devPool) awaitServing(ctx context.Context, clients []*client.Client) error {
	return poll(ctx, "the pool serves", func() error {
		st, err := readyStatus(ctx, clients)
		if err != nil {
			return err
		}
		if st.SPM.Since.Before(p.started.Truncate(time.Second)) {
			return fmt.Errorf("%s was SPM in an earlier run, and nobody has taken the role since", st.SPM.Host)
		}
		p.file = devFile{Pool: st.Pool.ID, Domain: st.Pool.Master, LUN: p.st.LUN, API: p.st.Hosts[0].url()}
		p.ids = map[string]int{}
		for _, h := range st.Hosts {
			p.ids[h.Name] = h.HostID
		}
		return p.haveKeepers()
	})
}

// haveKeepers says which host has not told its keeper's pid yet.
func (p *devPool) haveKeepers() error {
	for _, m := range p.st.Hosts {
		if keeperPID(p.hostDir(m)) == 0 {
			return errors.New(m.Name + " has no keeper yet")
		}
	}
	return nil
}

// readyStatus is the status of a pool of which every host works and one is SPM; an error says what is still missing.
// Each host is asked itself, because the mirror shows a host as it was until somebody finds out otherwise.
func readyStatus(ctx context.Context, clients []*client.Client) (api.Status, error) {
	for _, c := range clients {
		h, err := c.Health(ctx)
		if err != nil {
			return api.Status{}, err
		}
		if !h.OK {
			return api.Status{}, fmt.Errorf("host %s: %s", h.Host, h.Reason)
		}
	}
	st, _, err := clients[0].Status(ctx, client.Read{})
	if err != nil {
		return api.Status{}, err
	}
	if st.SPM.State != api.SPMServing {
		return api.Status{}, fmt.Errorf("the SPM is %s (%s)", st.SPM.State, st.SPM.Reason)
	}
	return st, hostsUp(st, len(clients))
}

// hostsUp says whether n hosts are up.
func hostsUp(st api.Status, n int) error {
	up := 0
	for _, h := range st.Hosts {
		if h.State == api.HostUp {
			up++
		}
	}
	if up < n {
		return fmt.Errorf("%d of %d hosts are up", up, n)
	}
	return nil
}

// poll calls f until it succeeds or ctx ends, and then tells what f said last.
func poll(ctx context.Context, what string, f func() error) error {
	tick := time.NewTicker(formPoll)
	defer tick.Stop()
	var last error
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w (last: %w)", what, ctx.Err(), last)
		}
	}
}

// spmHost asks the hosts, the first answer counts, who is SPM. Empty: nobody says.
func (p *devPool) spmHost() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	clients, err := p.clients()
	if err != nil {
		return ""
	}
	for _, c := range clients {
		spm, _, err := c.SPM(ctx, client.Read{})
		c.Close()
		if err == nil {
			return spm.Host
		}
	}
	return ""
}

// lastWords is the end of each host's log, for a start that failed.
func (p *devPool) lastWords() string {
	var b strings.Builder
	for _, m := range p.st.Hosts {
		lines := tail(agentLog(p.hostDir(m)), 5)
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\nlast lines of %s:\n  %s", agentLog(p.hostDir(m)), strings.Join(lines, "\n  "))
		}
	}
	return b.String()
}

// tail is the last n lines of a file.
func tail(path string, n int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
		lines = lines[max(0, len(lines)-n):]
	}
	return slices.Clip(lines)
}

// greet tells a person what there is and what to do with it.
func (p *devPool) greet(took time.Duration) {
	fmt.Fprintf(p.out, "The pool is ready after %.1f s.\n\n", took.Seconds())
	w := tabwriter.NewWriter(p.out, 0, 4, 3, ' ', 0)
	fmt.Fprintln(w, "  HOST\tID\tAPI\tAGENT\tKEEPER\tLOG")
	for i, h := range p.file.Hosts {
		fmt.Fprintf(w, "  %s\t%d\t%s\tpid %d\tpid %d\t%s\n", h.Name, h.HostID, h.HTTP, h.PID, h.KeeperPID, p.hosts[i].output)
	}
	w.Flush()
	fmt.Fprintf(p.out, "\n  pool %s, master domain %s\n  on the LUN %s\n\n", p.file.Pool, p.file.Domain, p.file.LUN)
	fmt.Fprintf(p.out, "In another terminal:\n\n  export HOLDFAST_ADDR=%s\n  holdfast status\n"+
		"  holdfast volume create --name disk1 --size 10GiB\n  kill -9 $(jq '.hosts[0] | .pid, .keeper_pid' %s)   # and watch\n\n"+
		"Ctrl-C stops every process; starting again on %s brings the pool back.\n",
		p.file.API, devFilePath(p.o.DataDir), p.o.DataDir)
}
