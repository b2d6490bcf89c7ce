package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// benchCallers is how many callers create at the same time.
const benchCallers = 64

// benchVolume is the next volume: thin, with the smallest first allocation, so that many fit.
func benchVolume(n int) api.VolumeCreate {
	return api.VolumeCreate{Name: fmt.Sprintf("bench-%04d", n), Size: 10 * gib, Format: api.FormatQCOW2, InitialSize: 128 << 20}
}

// create makes one volume through a host.
func (b *bench) create(ctx context.Context, host int) error {
	b.made++
	_, err := b.pool.client(host).CreateVolume(ctx, benchVolume(b.made), "")
	return err
}

// fill makes volumes up to a number with all callers at once, and returns how long it took.
func (b *bench) fill(ctx context.Context, upTo int) (n int, took time.Duration, err error) {
	var next atomic.Int32
	next.Store(int32(b.made))
	n, start := upTo-b.made, time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for caller := range benchCallers {
		g.Go(func() error {
			for {
				i := int(next.Add(1))
				if i > upTo {
					return nil
				}
				if _, err := b.pool.client(caller%3).CreateVolume(ctx, benchVolume(i), ""); err != nil {
					return err
				}
			}
		})
	}
	err = g.Wait()
	b.made = upTo
	return n, time.Since(start), err
}

func (b *bench) fillHalf(ctx context.Context) error {
	from := b.made
	n, took, err := b.fill(ctx, b.o.half)
	if err != nil {
		return err
	}
	b.report.rate(fmt.Sprintf("create, %d callers, %d to %d volumes", benchCallers, from, b.o.half), float64(n)/took.Seconds(), 500)
	return nil
}

// createOne times a call to the SPM's host, a call to another one, which passes it on, and the whole command.
func (b *bench) createOne(ctx context.Context) error {
	spm, err := b.pool.spm(ctx)
	if err != nil {
		return err
	}
	other := b.pool.other(spm.Host)
	for _, m := range []struct {
		into *samples
		n    int
		f    func() error
	}{
		{&b.report.direct, b.o.count, func() error { return b.create(ctx, b.pool.index(spm.Host)) }},
		{&b.report.passedOn, b.o.count, func() error { return b.create(ctx, other) }},
		{&b.report.commanded, b.o.count / 5, func() error { return b.createCommand(ctx, other) }},
	} {
		if *m.into, err = sample(m.n, m.f); err != nil {
			return err
		}
	}
	return nil
}

// createCommand makes one volume as a person would, process start included.
func (b *bench) createCommand(ctx context.Context, host int) error {
	b.made++
	v := benchVolume(b.made)
	return runSelf(ctx, "--address", b.pool.file().Hosts[host].HTTP, "volume", "create",
		"--name", v.Name, "--size", strconv.FormatInt(v.Size, 10), "-o", "json")
}

// moves times a planned move with the first volume made by the new SPM.
func (b *bench) moves(ctx context.Context) error {
	if err := b.pool.awaitUp(ctx); err != nil {
		return err
	}
	spm, err := b.pool.spm(ctx)
	if err != nil {
		return err
	}
	t, err := sample(b.o.runs, func() error {
		to := b.pool.file().Hosts[b.pool.other(spm.Host)].Name
		if spm, err = b.pool.client(0).MoveSPM(ctx, api.SPMMove{To: to, Reason: "bench"}); err != nil {
			return err
		}
		return b.create(ctx, 0)
	})
	b.report.times("spm move and the first volume", t, 200*time.Millisecond)
	return err
}

// killAgents times from SIGKILL of the SPM's agent to the next volume.
func (b *bench) killAgents(ctx context.Context) error {
	t, err := b.kills(ctx, func(host string) error { return b.pool.killAgent(host) }, nil)
	b.report.times("SIGKILL of the SPM's agent to the next volume", t, 1500*time.Millisecond)
	return err
}

// offGoal is how long after the confirmed power-off of the SPM the next volume may take.
const offGoal = 2 * time.Second

// killHosts times from SIGKILL of agent and keeper to the next volume, and from the confirmed power-off.
func (b *bench) killHosts(ctx context.Context) error {
	var afterOff samples
	t, err := b.kills(ctx, func(host string) error { _, err := b.pool.kill(host); return err }, func(host string, done time.Time) error {
		off, err := b.confirmedOff(ctx, host, done)
		if err == nil {
			afterOff = append(afterOff, done.Sub(off))
		}
		return err
	})
	b.report.times("SIGKILL of agent and keeper to the next volume", t, 4*time.Second)
	b.report.times("the same, from the confirmed power-off (power-off + x)", afterOff, offGoal)
	return err
}

// confirmedOff is when the power-off of a host was last confirmed, by the history of its fencing.
func (b *bench) confirmedOff(ctx context.Context, host string, before time.Time) (off time.Time, err error) {
	err = poll(ctx, "the fencing of "+host+" is in its history", func() error {
		l, _, err := b.pool.client(b.pool.other(host)).FenceHistory(ctx, host, 8, client.Read{})
		if err != nil {
			return err
		}
		for _, op := range l {
			for _, s := range op.Steps {
				if s.Rung == "power_off" && s.Result == "ok" && s.Time.Before(before) {
					off = s.Time
					return nil
				}
			}
		}
		return fmt.Errorf("no power-off of %s among %d operations", host, len(l))
	})
	return off, err
}

// kills times kills of the SPM to the next volume; then is told of each.
func (b *bench) kills(ctx context.Context, kill func(host string) error, then func(host string, done time.Time) error) (samples, error) {
	var all samples
	for range b.o.runs {
		if err := b.pool.awaitUp(ctx); err != nil {
			return all, err
		}
		spm, err := b.pool.spm(ctx)
		if err != nil {
			return all, err
		}
		t, err := sample(1, func() error {
			if err := kill(spm.Host); err != nil {
				return err
			}
			return b.create(ctx, b.pool.other(spm.Host))
		})
		if err != nil {
			return all, err
		}
		all = append(all, t...)
		if then == nil {
			continue
		}
		if err := then(spm.Host, time.Now()); err != nil {
			return all, err
		}
	}
	return all, nil
}

func (b *bench) fillUp(ctx context.Context) error {
	if err := b.pool.awaitUp(ctx); err != nil {
		return err
	}
	from := b.made
	n, took, err := b.fill(ctx, b.o.full)
	if err != nil {
		return err
	}
	b.report.rate(fmt.Sprintf("create, %d callers, %d to %d volumes", benchCallers, from, b.o.full), float64(n)/took.Seconds(), 500)
	return nil
}

// full measures memory and the way from lease to serving with the domain full.
func (b *bench) full(ctx context.Context) error {
	var starts samples
	for range b.o.runs {
		spm, err := b.pool.spm(ctx)
		if err != nil {
			return err
		}
		to := b.pool.file().Hosts[b.pool.other(spm.Host)].Name
		if _, err := b.pool.client(0).MoveSPM(ctx, api.SPMMove{To: to, Reason: "bench"}); err != nil {
			return err
		}
		took, err := b.lastStart(ctx)
		if err != nil {
			return err
		}
		starts = append(starts, took)
	}
	b.report.times(fmt.Sprintf("SPM start with %d volumes, lease to serving", b.o.full), starts, 500*time.Millisecond)
	return b.memory()
}

var startEvent = regexp.MustCompile(`, (\d+) ms from lease to serving`)

// lastStart is what the newest event of a start says about its time.
func (b *bench) lastStart(ctx context.Context) (took time.Duration, err error) {
	err = poll(ctx, "the start is recorded", func() error {
		events, _, err := b.pool.client(0).Events(ctx, 0, 5, client.Read{})
		if err != nil {
			return err
		}
		for i := len(events) - 1; i >= 0; i-- {
			if m := startEvent.FindStringSubmatch(events[i].Message); m != nil {
				ms, err := strconv.Atoi(m[1])
				took = time.Duration(ms) * time.Millisecond
				return err
			}
		}
		return fmt.Errorf("no event of a start among the last %d", len(events))
	})
	return took, err
}

// memory is the largest resident set of an agent and of a keeper.
func (b *bench) memory() error {
	var agent, keeper int64
	for _, h := range b.pool.file().Hosts {
		a, err := residentBytes(h.PID)
		if err != nil {
			return err
		}
		k, err := residentBytes(h.KeeperPID)
		if err != nil {
			return err
		}
		agent, keeper = max(agent, a), max(keeper, k)
	}
	b.report.bytes(fmt.Sprintf("agent's memory, %d volumes, largest of 3", b.o.full), agent, 200<<20)
	b.report.bytes("keeper's memory, largest of 3", keeper, 30<<20)
	return nil
}

// residentBytes reads VmRSS.
func residentBytes(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	f := strings.Fields(lineWith(string(b), "VmRSS"))
	if len(f) != 3 {
		return 0, fmt.Errorf("reading the memory of process %d: no VmRSS", pid)
	}
	kib, err := strconv.ParseInt(f[1], 10, 64)
	return kib << 10, err
}
