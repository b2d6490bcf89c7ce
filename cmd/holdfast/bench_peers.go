package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/uuid"
)

// peerRuns is how often each of the peer's commands is run.
const peerRuns = 15

// peers times what VDSM does for a new thin volume - lvcreate with three tags, then qemu-img create - on the same
// volume group, while the pool is down, and takes the volumes away again. Nothing is activated on either side. The
// image is made in a file beside the LUN, because lvm cannot activate a volume everywhere.
func (b *bench) peers(ctx context.Context) error {
	f := b.pool.file()
	if _, err := b.pool.stop(); err != nil {
		return err
	}
	b.pool = nil
	lvm, qemu, err := b.runPeers(ctx, &judges{lun: f.LUN, vg: f.Domain, quiet: true})
	if errors.Is(err, errNoJudge) {
		b.report.leftOut("lvcreate and qemu-img", err)
		err = nil
	}
	if err != nil {
		return err
	}
	b.report.peers(lvm, qemu)
	return b.start(ctx)
}

func (b *bench) runPeers(ctx context.Context, j *judges) (lvcreate, qemu samples, err error) {
	if _, err := toolPath("lvm"); err != nil {
		return nil, nil, err
	}
	if err := j.attachWritable(ctx); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, j.detach()) }()
	var names []string
	lvcreate, err = sample(peerRuns, func() error {
		name := uuid.NewString()
		names = append(names, j.vg+"/"+name)
		_, err := j.lvm(ctx, "lvcreate", "-q", "-an", "-Zn", "-Wn", "--driverloaded", "n", "--autobackup", "n", "--contiguous", "n",
			"--size", "128m", "--addtag", "OVIRT_VOL_INITIALIZING", "--addtag", "IU_"+uuid.NewString(), "--addtag", "MD_1900",
			"--name", name, j.vg)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if _, err := j.lvm(ctx, "lvremove", append([]string{"-q", "-f", "--driverloaded", "n", "--autobackup", "n"}, names...)...); err != nil {
		return nil, nil, err
	}
	qemu, err = sample(peerRuns, func() error {
		_, err := j.run(ctx, "qemu-img", "create", "-q", "-f", "qcow2", filepath.Join(b.o.dir, "peer.qcow2"), "10G")
		return err
	})
	return lvcreate, qemu, err
}

// attachWritable is attach for a peer that changes the LUN, with direct I/O as on a real device where that works.
func (j *judges) attachWritable(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("lvm needs a loop device, and only root can make one: %w", errNoJudge)
	}
	return j.losetup(ctx, "--direct-io=on")
}

// runSelf runs a verb of this program and throws its output away.
func runSelf(ctx context.Context, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if out, err := exec.CommandContext(ctx, self, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("holdfast %v: %w: %s", args, err, out)
	}
	return nil
}
