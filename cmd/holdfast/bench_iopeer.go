package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"
)

// countSanlock counts the I/O of a daemon that runs under strace.
func countSanlock(ctx context.Context, dir string) (c ioCosts, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	strace, err := toolPath("strace")
	if err != nil {
		return c, err
	}
	p, err := startSanlock(ctx, dir, strace, "-f", "-v", "-s", "0", "-e", "trace=io_submit", "-o", dir+".trace")
	if err != nil {
		return c, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, p.stop())
		}
	}()
	t := &ioTrace{file: dir + ".trace"}
	// Joining ends with the first renewal, as ours does.
	if c.join, err = t.await(ctx, "the daemon renews", 2); err != nil {
		return c, err
	}
	if c.renewal, err = t.await(ctx, "renewals of the daemon", peerRenewals); err != nil {
		return c, err
	}
	c.renewal = c.renewal.per(peerRenewals)
	if c.exclusive, err = t.rounds(ctx, p, p.resource(0)); err != nil {
		return c, err
	}
	if c.shared, err = t.rounds(ctx, p, p.resource(0)+":SH"); err != nil {
		return c, err
	}
	if _, err = t.await(ctx, "the daemon has just renewed", 1); err != nil {
		return c, err
	}
	stopped = true
	if err = p.stop(); err != nil {
		return c, err
	}
	last, err := t.read()
	c.leave = total(last.space)
	return c, err
}

// ioTrace reads what strace saw, from where it was read last.
type ioTrace struct {
	file string
	seen int
	fd   string // the lockspace's descriptor: the daemon's first I/O goes there
}

// ioCall is one request to the kernel.
type ioCall struct {
	write bool
	bytes float64
}

// ioCalls are requests to the lockspace and to resources.
type ioCalls struct{ space, resources []ioCall }

var ioLine = regexp.MustCompile(`IOCB_CMD_P(READ|WRITE), (?:aio_reqprio=\d+, )?aio_fildes=(\d+).*?aio_nbytes=(\d+)`)

// read takes in what is new.
func (t *ioTrace) read() (ioCalls, error) {
	f, err := os.Open(t.file)
	if err != nil {
		return ioCalls{}, err
	}
	defer f.Close()
	var c ioCalls
	n := 0
	s := bufio.NewScanner(f)
	for s.Scan() {
		m := ioLine.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		if n++; n <= t.seen {
			continue
		}
		if t.fd == "" {
			t.fd = m[2]
		}
		bytes, err := strconv.Atoi(m[3])
		if err != nil {
			return c, fmt.Errorf("reading the trace: %w", err)
		}
		call := ioCall{write: m[1] == "WRITE", bytes: float64(bytes)}
		if m[2] == t.fd {
			c.space = append(c.space, call)
		} else {
			c.resources = append(c.resources, call)
		}
	}
	t.seen = max(t.seen, n)
	return c, s.Err()
}

// await waits for writes to the lockspace and returns all that went there.
func (t *ioTrace) await(ctx context.Context, what string, writes int) (ioCount, error) {
	var all []ioCall
	err := poll(ctx, what, func() error {
		c, err := t.read()
		if err != nil {
			return err
		}
		all = append(all, c.space...)
		if n := int(total(all).writes); n < writes {
			return fmt.Errorf("%d of %d", n, writes)
		}
		return nil
	})
	return total(all), err
}

// rounds has the peer take and release a resource, and counts what went to it.
func (t *ioTrace) rounds(ctx context.Context, p *sanlockPeer, resource string) (ioCount, error) {
	if _, err := t.read(); err != nil {
		return ioCount{}, err
	}
	if _, err := p.rounds(ctx, resource, ioRounds); err != nil {
		return ioCount{}, err
	}
	c, err := t.read()
	return total(c.resources).per(ioRounds), err
}

// total adds calls up. The daemon writes synchronously, which is a flush with each write.
func total(calls []ioCall) ioCount {
	var c ioCount
	for _, call := range calls {
		if call.write {
			c.writes, c.flushes, c.writeBytes = c.writes+1, c.flushes+1, c.writeBytes+call.bytes
		} else {
			c.reads, c.readBytes = c.reads+1, c.readBytes+call.bytes
		}
	}
	return c
}
