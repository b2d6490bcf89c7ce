package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

const gib = int64(1) << 30

// demoVolume is the n-th volume of the demo: every second one raw, with sizes that differ.
func demoVolume(n int) api.VolumeCreate {
	v := api.VolumeCreate{Name: fmt.Sprintf("disk-%02d", n), Size: int64(n) * 10 * gib, Format: api.FormatQCOW2}
	if n%2 == 0 {
		v.Format, v.Size = api.FormatRaw, gib
	}
	return v
}

// createVolumes makes the volumes, four at a time.
func (d *demo) createVolumes(ctx context.Context) error {
	return d.report.step(fmt.Sprintf("create %d volumes, raw and qcow2", demoVolumes), func() (string, error) {
		ctx, cancel := within(ctx, 30*time.Second)
		defer cancel()
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(4)
		start := time.Now()
		for n := 1; n <= demoVolumes; n++ {
			g.Go(func() error {
				_, err := d.pool.client(n%3).CreateVolume(ctx, demoVolume(n), "")
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return "", err
		}
		took := time.Since(start)
		return fmt.Sprintf("%.1f ms each, asked on all three hosts", took.Seconds()*1000/demoVolumes), d.expectVolumes(ctx, 0, demoVolumes)
	})
}

// expectVolumes asks a host for the list, as new as the leader's, and compares the number.
func (d *demo) expectVolumes(ctx context.Context, host, n int) error {
	vs, _, err := d.pool.client(host).Volumes(context.WithoutCancel(ctx), client.VolumeFilter{}, client.Read{Consistent: true})
	if err != nil {
		return err
	}
	if len(vs) != n {
		return fmt.Errorf("%d volumes are listed, want %d", len(vs), n)
	}
	return nil
}

// showStatus prints what `holdfast status` prints.
func (d *demo) showStatus(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	fmt.Fprintf(d.out, "$ holdfast status\n")
	ctx, cancel := within(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "--address", d.pool.file().API, "status")
	cmd.Stdout, cmd.Stderr = d.out, d.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("holdfast status: %w", err)
	}
	fmt.Fprintln(d.out)
	return nil
}

// killSPM kills agent and keeper of the SPM's host at once, waits for another host to serve, and makes a volume.
func (d *demo) killSPM(ctx context.Context) error {
	var before, after api.SPM
	err := d.report.step("kill -9 agent and keeper of the SPM's host", func() (text string, err error) {
		if before, err = d.pool.spm(ctx); err != nil {
			return "", err
		}
		return d.pool.kill(before.Host)
	})
	if err != nil {
		return err
	}
	err = d.report.step("the role on another host, a new volume made", func() (string, error) {
		ctx, cancel := within(ctx, 30*time.Second)
		defer cancel()
		asker := d.pool.other(before.Host)
		v, err := d.pool.client(asker).CreateVolume(ctx, demoVolume(demoVolumes+1), "")
		if err != nil {
			return "", err
		}
		if after, _, err = d.pool.client(asker).SPM(ctx, client.Read{Consistent: true}); err != nil {
			return "", err
		}
		if after.Host == before.Host || v.Epoch <= before.Epoch {
			return "", fmt.Errorf("the role stayed: %s epoch %d, volume made in epoch %d", after.Host, after.Epoch, v.Epoch)
		}
		return fmt.Sprintf("%s epoch %d -> %s epoch %d", before.Host, before.Epoch, after.Host, after.Epoch), nil
	})
	if err != nil {
		return err
	}
	d.killed = before.Host
	return d.report.step("all volumes still there", func() (string, error) {
		n := demoVolumes + 1
		return fmt.Sprintf("%d of %d", n, n), d.expectVolumes(ctx, d.pool.other(before.Host), n)
	})
}

// moveBack waits for the killed host and gives it the role again.
func (d *demo) moveBack(ctx context.Context) error {
	ctx, cancel := within(ctx, 60*time.Second)
	defer cancel()
	err := d.report.step("the killed host is fenced, restarted and up again", func() (string, error) {
		return d.killed, d.pool.awaitUp(ctx)
	})
	if err != nil {
		return err
	}
	err = d.report.step("holdfast spm move "+d.killed, func() (string, error) {
		spm, err := d.pool.client(0).MoveSPM(ctx, api.SPMMove{To: d.killed, Reason: "demo"})
		if err == nil && spm.Host != d.killed {
			err = fmt.Errorf("the role is on %s", spm.Host)
		}
		return fmt.Sprintf("%s epoch %d", spm.Host, spm.Epoch), err
	})
	if err != nil {
		return err
	}
	return d.report.step("first volume of the new SPM", func() (string, error) {
		v, err := d.pool.client(1).CreateVolume(ctx, demoVolume(demoVolumes+3), "")
		return fmt.Sprintf("%s, epoch %d, mirrored %t", v.Name, v.Epoch, v.Mirrored), err
	})
}

// checkDomain runs Holdfast's own check of the master domain.
func (d *demo) checkDomain(ctx context.Context) error {
	return d.report.step("holdfast domain check", func() (string, error) {
		ctx, cancel := within(ctx, 30*time.Second)
		defer cancel()
		c, err := d.pool.client(0).CheckDomain(ctx, d.pool.file().Domain)
		if err == nil && !c.Clean {
			err = fmt.Errorf("findings: %+v", c.Findings)
		}
		return fmt.Sprintf("clean, %d remarks", len(c.Findings)), err
	})
}
