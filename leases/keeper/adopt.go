package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/internal/clock"
)

// adopt takes over a keeper that was left for the leases that stay; nil if there is none. One that still has its agent, or
// frees what that had, is waited for as long as a new one would wait for its lock.
func adopt(ctx context.Context, cfg Config) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(cfg.LockWait, lockWait))
	defer cancel()
	dir, err := os.Open(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", doorPath(dir))
	if err != nil {
		return nil, nil // no keeper, or one that has ended
	}
	c, err := takeOver(ctx, cfg, conn)
	if err != nil {
		cfg.Log.Debug("no keeper could be taken over", "error", err)
		_ = conn.Close()
		return nil, nil // it has ended meanwhile, or still has its agent: a new one waits for that
	}
	return c, nil
}

// takeOver says who we are and takes the page.
func takeOver(ctx context.Context, cfg Config, conn net.Conn) (*Client, error) {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	pidfd, err := agentPidfd(cfg.AgentPID)
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	if err := writeFrame(&fdWriter{conn, []*os.File{pidfd}}, &request{Method: methodAdopt, FDs: 1}); err != nil {
		return nil, err
	}
	in := &fdReader{conn: conn}
	defer in.close()
	var resp response
	if err := readFrame(in, &resp); err != nil {
		return nil, err
	}
	files, err := in.take(1)
	if err != nil {
		return nil, err
	}
	return adopted(cfg, conn, files[0], resp.PID)
}

// adopted makes the client of a keeper that is not new. It owns the page's file.
func adopted(cfg Config, conn net.Conn, pageFile *os.File, pid int) (*Client, error) {
	p, err := mapPage(pageFile, false)
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return nil, errors.Join(err, pageFile.Close())
	}
	// The keeper has answered and goes on to: the number cannot mean another process before Hello is answered too.
	watch, err := watchPID(pid)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watching the keeper: %w", err), pageFile.Close())
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		watch.close()
		return nil, errors.Join(err, pageFile.Close())
	}
	c := newClient(cfg, p, pageFile, conn)
	c.pid, c.watch, c.adopted = pid, watch, true
	c.run()
	return c, nil
}

// newClient is a client before its loops run.
func newClient(cfg Config, p *page, pageFile *os.File, conn net.Conn) *Client {
	return &Client{log: cfg.Log, onLost: cfg.OnLost, page: p, pageFile: pageFile, clock: clock.System{}, conn: conn,
		done: make(chan struct{}), left: make(chan struct{}),
		waiting: map[uint64]chan *response{}, grants: map[string]*grant{}, orphans: map[uint64]*orphan{},
		onRequest: cfg.OnRequest, onEvent: cfg.OnEvent, notices: make(chan *response, maxNotices)}
}

// run starts the loops.
func (c *Client) run() {
	c.loops.Go(c.receive)
	c.loops.Go(c.tell)
	c.loops.Go(c.reap)
}

// watchPID waits for the end of a process that runs now.
func watchPID(pid int) (*watcher, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	w, err := watchProcess(fd)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	w.own = true
	return w, nil
}

// Adopted says that the keeper was there before this agent, with leases that have outlived the last one.
func (c *Client) Adopted() bool { return c.adopted }

// reap waits for the end of the process, or until it is left to the next agent, and voids what it held for us.
func (c *Client) reap() {
	select {
	case <-c.watch.gone:
		c.err = c.collect()
		c.log.Info("keeper ended", "pid", c.pid, "error", c.err)
	case <-c.left:
		if c.cmd != nil {
			_ = c.cmd.Process.Release() // whoever takes it over collects its status, or init does
		}
		c.log.Info("keeper left to the next agent", "pid", c.pid)
	}
	c.watch.close()
	c.revokeAll()
	_ = c.conn.Close()
	c.sharing.Lock()
	_ = c.pageFile.Close()
	c.sharing.Unlock()
	close(c.done)
}

// collect takes the exit status of a process that has ended.
func (c *Client) collect() error {
	if c.cmd != nil {
		return c.cmd.Wait()
	}
	_, _ = unix.Wait4(c.pid, nil, unix.WNOHANG, nil) // a child of this very process, if an earlier client of it made it
	return nil
}
