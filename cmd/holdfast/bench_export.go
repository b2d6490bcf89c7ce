package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/mapper/export"
	"github.com/holdfast-io/holdfast/http/api"
)

const (
	// exportMiB is the region that both servers write to, in turns.
	exportMiB = 512
	// fastMiB is what is written to a thin volume at once: three extensions with the default chunk.
	fastMiB = 6 << 10
	// exportRatio is the least of qemu-nbd's speed, exportMemory the most resident memory.
	exportRatio  = 0.8
	exportMemory = 40 << 20
)

var imgSeconds = regexp.MustCompile(`Run completed in ([0-9.]+) seconds`)

// imgWrite has qemu-img write sequentially, 1 MiB at a time, and returns MiB per second.
func imgWrite(ctx context.Context, uri, format string, depth, mib int) (float64, error) {
	img, err := toolPath("qemu-img")
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, img, "bench", "-f", format, "-w", "-t", "none", "-s", "1M", "-d", strconv.Itoa(depth), "-c", strconv.Itoa(mib),
		"--pattern=85", uri)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("qemu-img bench: %w: %s", err, out)
	}
	m := imgSeconds.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("qemu-img bench says %q", out)
	}
	s, err := strconv.ParseFloat(string(m[1]), 64)
	return float64(mib) / s, err
}

// exportPeer writes to one region of the LUN through an export and through qemu-nbd, in turns.
func (b *bench) exportPeer(ctx context.Context) (err error) {
	const what = "NBD export beside qemu-nbd"
	nbd, err := toolPath("qemu-nbd")
	if err != nil {
		b.report.leftOut(what, err)
		return nil
	}
	t, err := attachThin(ctx, b.pool.client(0), b.pool.file().Hosts[0].Name,
		api.VolumeCreate{Name: "bench-export", Size: exportMiB << 20, Format: api.FormatRaw})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.drop(ctx)) }()
	if n := len(t.spec.Segments); n != 1 {
		return fmt.Errorf("a new volume of %d pieces: take another LUN", n)
	}
	sock := filepath.Join(b.o.dir, "peer.nbd")
	pid, stop, err := serveRegion(ctx, nbd, sock, t.spec.Segments[0])
	if err != nil {
		return err
	}
	defer stop()
	peer := "nbd+unix:///?socket=" + sock
	for _, uri := range []string{peer, t.uri} { // the file has its blocks afterwards, and both their memory
		if _, err := imgWrite(ctx, uri, "raw", 8, exportMiB); err != nil {
			return err
		}
	}
	for _, depth := range []int{1, 8} {
		if err := b.exportDepth(ctx, t.uri, peer, depth); err != nil {
			return err
		}
	}
	return b.exportMemory(t.pid, pid)
}

// serveRegion starts qemu-nbd on a region of the LUN, with direct I/O like ours.
func serveRegion(ctx context.Context, nbd, sock string, g export.SegmentSpec) (pid int, stop func(), err error) {
	opts := fmt.Sprintf("driver=raw,offset=%d,size=%d,file.driver=file,file.filename=%s,file.locking=off,file.cache.direct=on,file.aio=native",
		g.OffsetBytes, exportMiB<<20, g.Device)
	cmd := exec.CommandContext(ctx, nbd, "--persistent", "--shared=4", "--socket="+sock, "--image-opts", opts)
	if err := cmd.Start(); err != nil {
		return 0, nil, fmt.Errorf("starting qemu-nbd: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}
	err = poll(ctx, "qemu-nbd listens", func() error {
		_, err := imgWrite(ctx, "nbd+unix:///?socket="+sock, "raw", 1, 1)
		return err
	})
	if err != nil {
		stop()
		return 0, nil, err
	}
	return cmd.Process.Pid, stop, nil
}

// exportDepth compares with so many writes under way.
func (b *bench) exportDepth(ctx context.Context, uri, peer string, depth int) error {
	var ours, theirs, ratios []float64
	for i := range b.o.runs {
		var o, p float64
		for turn := range 2 { // nobody always comes second
			v, to := uri, &o
			if turn == i%2 {
				v, to = peer, &p
			}
			var err error
			if *to, err = imgWrite(ctx, v, "raw", depth, exportMiB); err != nil {
				return err
			}
		}
		ours, theirs, ratios = append(ours, o), append(theirs, p), append(ratios, o/p)
	}
	ratio := middle(ratios)
	b.report.rows = append(b.report.rows, benchRow{what: fmt.Sprintf("export, sequential writes of 1 MiB, %d under way", depth),
		value: fmt.Sprintf("%.0f MiB/s", middle(ours)), n: strconv.Itoa(len(ours)), peer: fmt.Sprintf("%.0f MiB/s (qemu-nbd)", middle(theirs)),
		ratio: fmt.Sprintf("%.2f", ratio), goal: fmt.Sprintf(">= %.1f", exportRatio), met: verdict(ratio >= exportRatio)})
	return nil
}

// middle is the median.
func middle(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

// exportMemory compares resident sets after all that work.
func (b *bench) exportMemory(ours, theirs int) error {
	o, err := residentBytes(ours)
	if err != nil {
		return err
	}
	p, err := residentBytes(theirs)
	if err != nil {
		return err
	}
	b.report.bytes("export's memory", o, exportMemory)
	row := &b.report.rows[len(b.report.rows)-1]
	row.peer, row.ratio = formatSize(p)+" (qemu-nbd)", fmt.Sprintf("%.2f", float64(o)/float64(p))
	return nil
}

// writeFast writes to a thin volume as fast as it goes, and counts the writes that had to wait for an extension.
func (b *bench) writeFast(ctx context.Context) (err error) {
	if _, err := toolPath("qemu-img"); err != nil {
		b.report.leftOut("writing faster than volumes grow", err)
		return nil
	}
	spm, err := b.pool.spm(ctx)
	if err != nil {
		return err
	}
	host := b.pool.other(spm.Host)
	t, err := attachThin(ctx, b.pool.client(host), b.pool.file().Hosts[host].Name, api.VolumeCreate{Name: "bench-fast", Size: 2 * fastMiB << 20})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.drop(ctx)) }()
	writing, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	speed, err := imgWrite(writing, t.uri, "qcow2", 8, fastMiB)
	if err != nil {
		return err
	}
	st, err := t.ctl.Status(ctx)
	if err != nil {
		return err
	}
	b.report.rows = append(b.report.rows, benchRow{what: fmt.Sprintf("writes that waited for space, %d MiB at %.0f MiB/s", fastMiB, speed),
		value: strconv.FormatUint(st.Waited, 10), n: strconv.Itoa(fastMiB), goal: "<= 0", met: verdict(st.Waited == 0)})
	return nil
}
