package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// specialLVs are the volumes that a block domain has besides its disks.
var specialLVs = []string{"ids", "inbox", "leases", "master", "metadata", "outbox", "xleases"}

// spmLeaseOffset is the place of the SPM's lease in the leases volume.
const spmLeaseOffset = 1 << 20

// judge lets the real programs look at the LUN while the pool is idle.
func (d *demo) judge(ctx context.Context) error {
	f := d.pool.file()
	vols, _, err := d.pool.client(0).Volumes(ctx, client.VolumeFilter{}, client.Read{Consistent: true})
	if err != nil {
		return fmt.Errorf("listing what the judges should find: %w", err)
	}
	j := &judges{lun: f.LUN, vg: f.Domain}
	lvs, err := d.judgeVG(ctx, j, vols)
	if errors.Is(err, errNoJudge) {
		d.report.leftOut("vgck, lvs, sanlock, qemu-img on the LUN", err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.judgeLeases(ctx, j, lvs, f), d.judgeImages(ctx, j, lvs, vols))
}

// judgeVG runs vgck and lvs, and compares the volumes and their tags with what the pool says.
func (d *demo) judgeVG(ctx context.Context, j *judges, vols []api.Volume) (lvs map[string]lv, err error) {
	if err := j.attach(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.detach()) }()
	if _, err := j.lvm(ctx, "version"); errors.Is(err, errNoJudge) {
		return nil, err
	}
	err = d.report.step("judge: vgck", func() (string, error) {
		_, err := j.lvm(ctx, "vgck", j.vg)
		return "volume group accepted by lvm2", err
	})
	if err != nil {
		return nil, err
	}
	err = d.report.step("judge: lvs -o tags", func() (string, error) {
		if lvs, err = j.lvs(ctx); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d logical volumes, names and tags as listed", len(lvs)), compareLVs(lvs, vols)
	})
	return lvs, err
}

// compareLVs holds what lvm sees against what the pool lists.
func compareLVs(lvs map[string]lv, vols []api.Volume) error {
	for _, name := range specialLVs {
		if _, ok := lvs[name]; !ok {
			return fmt.Errorf("lvs has no %s volume", name)
		}
	}
	if want := len(vols) + len(specialLVs); len(lvs) != want {
		return fmt.Errorf("lvs has %d volumes, the pool lists %d and the domain has %d of its own", len(lvs), len(vols), len(specialLVs))
	}
	for _, v := range vols {
		got, ok := lvs[v.ID]
		if !ok {
			return fmt.Errorf("lvs has no volume %s (%s)", v.ID, v.Name)
		}
		for _, tag := range []string{"IU_" + v.Image, fmt.Sprintf("MD_%d", v.Slot)} {
			if !slices.Contains(got.Tags, tag) {
				return fmt.Errorf("volume %s has tags %v, and %s is not among them", v.ID, got.Tags, tag)
			}
		}
	}
	return nil
}

// judgeLeases dumps the host ids and the leases with sanlock.
func (d *demo) judgeLeases(ctx context.Context, j *judges, lvs map[string]lv, f devFile) error {
	if _, err := toolPath("sanlock"); err != nil {
		d.report.leftOut("sanlock direct dump", err.Error())
		return nil
	}
	err := d.report.step("judge: sanlock direct dump ids", func() (string, error) {
		out, err := j.dump(ctx, lvs["ids"].Offset, 1<<20)
		if err == nil && strings.Count(out, f.Domain) < len(f.Hosts) {
			err = fmt.Errorf("fewer than %d hosts in\n%s", len(f.Hosts), out)
		}
		return fmt.Sprintf("%d hosts in lockspace %s", len(f.Hosts), f.Domain), err
	})
	if err != nil {
		return err
	}
	return d.report.step("judge: sanlock direct dump leases", func() (string, error) {
		out, err := j.dump(ctx, lvs["leases"].Offset+spmLeaseOffset, 1<<20)
		if err == nil && (!strings.Contains(out, "SDM") || !strings.Contains(out, f.Domain)) {
			err = fmt.Errorf("no SDM lease in\n%s", out)
		}
		return "SDM lease: " + strings.Join(strings.Fields(lineWith(out, "SDM")), " "), err
	})
}

// lineWith is the first line that holds a word.
func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}

// judgeImages runs qemu-img on every qcow2 volume.
func (d *demo) judgeImages(ctx context.Context, j *judges, lvs map[string]lv, vols []api.Volume) error {
	if _, err := toolPath("qemu-img"); err != nil {
		d.report.leftOut("qemu-img check and info", err.Error())
		return nil
	}
	return d.report.step("judge: qemu-img check and info", func() (string, error) {
		n := 0
		for _, v := range vols {
			if v.Format != api.FormatQCOW2 || lvs[v.ID].Offset < 0 {
				continue
			}
			if err := j.judgeImage(ctx, lvs[v.ID], v.Size); err != nil {
				return "", fmt.Errorf("volume %s (%s): %w", v.ID, v.Name, err)
			}
			n++
		}
		if n == 0 {
			return "", errors.New("there was no qcow2 volume to judge")
		}
		return fmt.Sprintf("%d qcow2 volumes without errors, sizes as listed", n), nil
	})
}

// judgeImage checks one volume and compares its virtual size.
func (j *judges) judgeImage(ctx context.Context, v lv, size int64) error {
	if _, err := j.qemuImg(ctx, "check", v); err != nil {
		return err
	}
	out, err := j.qemuImg(ctx, "info", v)
	if err != nil {
		return err
	}
	var info struct {
		Format string `json:"format"`
		Size   int64  `json:"virtual-size"`
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		return fmt.Errorf("reading qemu-img info: %w", err)
	}
	if info.Format != api.FormatQCOW2 || info.Size != size {
		return fmt.Errorf("qemu-img sees %s of %d bytes, the pool lists qcow2 of %d", info.Format, info.Size, size)
	}
	return nil
}
