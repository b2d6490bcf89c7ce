package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

const (
	// hangDomain is the domain whose LUN hangs, hangLUN its size.
	hangDomain, hangLUN = "hang", 64 * gib
	// The LUN hangs hangTimes, and is well before, between and after: a 99th percentile of one stretch against that of another differs by
	// a third from one run to the next for reasons of its own. hangPhase is how long is measured while it hangs: reads that time out, a lockspace
	// that is lost and the verdict on the domain are all in it. wellPhase is how long while it does not.
	hangTimes            = 3
	hangPhase, wellPhase = 25 * time.Second, 19 * time.Second
	// hangRatio bounds the 99th percentiles while it hangs by those while it does not.
	hangRatio = 1.2
	// hangAskers want volumes on the hung domain all the while.
	hangAskers = 2
)

// hangOps are what is measured, in turns.
var hangOps = []string{"create a volume", "extend a volume", "list the volumes", "acquire and release a lease"}

// lunHangs measures what users of one domain notice when the LUN of another one stops answering.
func (b *bench) lunHangs(ctx context.Context) error {
	nbd, err := toolPath("qemu-nbd")
	if err != nil {
		b.report.leftOut("a LUN hangs: the other domain", err)
		return nil
	}
	h := &hangBench{b: b, lease: uuid.NewString()}
	if err := h.serve(ctx, nbd); err != nil {
		return err
	}
	defer h.stop()
	if err := h.prepare(ctx); err != nil {
		return err
	}
	well, hung := map[string]samples{}, map[string]samples{}
	if err := h.phase(ctx, wellPhase, well); err != nil {
		return err
	}
	for range hangTimes {
		if err := h.whileHung(ctx, hung); err != nil {
			return err
		}
		if err := h.phase(ctx, wellPhase, well); err != nil {
			return err
		}
	}
	for _, op := range hangOps {
		b.report.hang(op, well[op], hung[op])
	}
	return h.tidy(ctx)
}

// hangBench is a second domain of the pool behind a server that can be stopped.
type hangBench struct {
	b      *bench
	server *exec.Cmd
	lease  string
	c      *client.Client // of a host that is not the SPM
	host   string
	n      int // volumes made
}

// serve starts the server of the second LUN at the address that every host of a dev pool may use.
func (h *hangBench) serve(ctx context.Context, nbd string) error {
	file := filepath.Join(h.b.o.dir, "hang.raw")
	if _, err := makeLUN(file, hangLUN); err != nil {
		return err
	}
	h.server = exec.Command(nbd, "--persistent", "--shared=0", "--socket="+devSocket(h.b.o.dir), "--export-name=lun", "--format=raw",
		"--cache=none", "--aio=threads", file)
	if err := h.server.Start(); err != nil {
		return fmt.Errorf("starting qemu-nbd: %w", err)
	}
	return nil
}

// stop ends the server, also when it was stopped.
func (h *hangBench) stop() {
	_ = h.server.Process.Kill()
	_ = h.server.Wait() // killed
}

// prepare makes the second domain and a lease on the first one.
func (h *hangBench) prepare(ctx context.Context) error {
	spm, err := h.b.pool.spm(ctx)
	if err != nil {
		return err
	}
	i := h.b.pool.other(spm.Host)
	h.c, h.host = h.b.pool.client(i), h.b.pool.file().Hosts[i].Name
	err = poll(ctx, "the second domain", func() error {
		_, err := h.c.CreateDomain(ctx, api.DomainCreate{Name: hangDomain, Devices: []string{devSocketLUN(h.b.o.dir)}})
		return err
	})
	if err != nil {
		return err
	}
	if err := h.await(ctx, api.DomainActive); err != nil {
		return err
	}
	_, err = h.c.CreateLease(ctx, h.b.pool.file().Domain, h.lease)
	return err
}

// await waits until the second domain has a status, and as active one nobody who fails to reach it.
func (h *hangBench) await(ctx context.Context, status string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return poll(ctx, "the second domain is "+status, func() error {
		d, _, err := h.c.Domain(ctx, hangDomain, client.Read{})
		if err == nil && (d.Status != status || status == api.DomainActive && len(d.FailingHosts) > 0) {
			err = fmt.Errorf("it is %s: %s", d.Status, d.Reason)
		}
		return err
	})
}

// whileHung stops the server, measures, and lets it go on.
func (h *hangBench) whileHung(ctx context.Context, out map[string]samples) error {
	if err := h.server.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stopping qemu-nbd: %w", err)
	}
	asking, cancel := context.WithCancel(ctx)
	var askers sync.WaitGroup
	for i := range hangAskers {
		askers.Go(func() { h.ask(asking, i) })
	}
	err := h.phase(ctx, hangPhase, out)
	if err == nil {
		err = h.await(ctx, api.DomainInactive)
	}
	cancel()
	askers.Wait()
	if cerr := h.server.Process.Signal(syscall.SIGCONT); cerr != nil {
		err = errors.Join(err, fmt.Errorf("letting qemu-nbd go on: %w", cerr))
	}
	if err != nil {
		return err
	}
	return h.await(ctx, api.DomainActive)
}

// ask wants volumes on the domain that hangs, until ctx ends. Whatever comes of it is right.
func (h *hangBench) ask(ctx context.Context, i int) {
	for n := 0; ctx.Err() == nil; n++ {
		_, err := h.c.CreateVolume(ctx, api.VolumeCreate{Name: fmt.Sprintf("hang-asked-%d-%d", i, n), Size: gib, Format: api.FormatQCOW2,
			InitialSize: 128 << 20, Domain: hangDomain}, "")
		if err != nil {
			h.pause(ctx)
		}
	}
}

func (h *hangBench) pause(ctx context.Context) {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// phase measures for a while.
func (h *hangBench) phase(ctx context.Context, lasts time.Duration, out map[string]samples) error {
	for begun := time.Now(); time.Since(begun) < lasts; {
		if err := h.round(ctx, out); err != nil {
			return err
		}
	}
	return nil
}

// round does everything once. The volume is deleted again, outside of what is measured.
func (h *hangBench) round(ctx context.Context, out map[string]samples) error {
	h.n++
	master := h.b.pool.file().Domain
	var v api.VolumeCreated
	for i, do := range []func() error{
		func() (err error) {
			v, err = h.c.CreateVolume(ctx, api.VolumeCreate{Name: fmt.Sprintf("hang-%04d", h.n), Size: 10 * gib, Format: api.FormatQCOW2,
				InitialSize: 128 << 20, Domain: master}, "")
			return err
		},
		func() error {
			_, err := h.c.ExtendVolume(ctx, v.ID, api.VolumeExtend{Size: v.Allocated + benchExtent})
			return err
		},
		func() error { _, _, err := h.c.Volumes(ctx, client.VolumeFilter{}, client.Read{}); return err },
		func() error {
			if _, err := h.c.AcquireLease(ctx, master, h.lease, api.LeaseFor{VM: "bench"}); err != nil {
				return err
			}
			_, err := h.c.ReleaseLease(ctx, master, h.lease, api.LeaseFor{VM: "bench"})
			return err
		},
	} {
		t, err := sample(1, do)
		if err != nil {
			return fmt.Errorf("%s: %w", hangOps[i], err)
		}
		out[hangOps[i]] = append(out[hangOps[i]], t...)
	}
	_, err := h.c.DeleteVolume(ctx, v.ID)
	return err
}

// tidy takes away what later steps should not find: the domain stays, in maintenance, and its server goes.
func (h *hangBench) tidy(ctx context.Context) error {
	if _, err := h.c.DeleteLease(ctx, h.b.pool.file().Domain, h.lease, false); err != nil {
		return err
	}
	return poll(ctx, "the second domain is in maintenance", func() error {
		_, err := h.c.DeactivateDomain(ctx, hangDomain, api.DomainWish{Reason: "the benchmark has done with it"})
		return err
	})
}

// hang is a line that holds the times while a LUN hangs against those while it does not.
func (r *benchReport) hang(op string, well, hung samples) {
	if len(well) == 0 || len(hung) == 0 {
		return
	}
	ratio := float64(hung.at(0.99)) / float64(well.at(0.99))
	r.rows = append(r.rows, benchRow{what: "another domain's LUN hangs: " + op, value: ms(hung.median()), p99: ms(hung.at(0.99)),
		n: fmt.Sprint(len(hung)), peer: fmt.Sprintf("%s, p99 %s (ours, while it is well)", ms(well.median()), ms(well.at(0.99))),
		ratio: fmt.Sprintf("%.2f of p99", ratio), goal: fmt.Sprintf("<= %.1f", hangRatio), met: verdict(ratio <= hangRatio)})
}
