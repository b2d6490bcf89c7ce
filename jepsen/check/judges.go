package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// The files that the judges leave in a run's folder.
const (
	JudgesFile = "judges.json"       // a list of Sentence
	LVsFile    = "lun-lvs.json"      // a list of LV
	CheckFile  = "domain-check.json" // what the program says of the domain: api.Check
)

// Judges runs real programs on the LUN's file when a run has ended and nobody writes any more.
type Judges struct {
	LUN     string // the file
	Domain  string // its id, which is the volume group's name
	Folder  string // of the run
	Hosts   int    // that joined: so many records the lockspace has at least
	Program string // holdfast
	Address string // of an agent that answers; empty: the answer of `domain check` is in the folder already
	Images  int    // how many qcow2 volumes qemu-img looks at; 0: 50

	device string // a read-only loop device over LUN while lvm runs
}

// Sentence is what one judge said.
type Sentence struct {
	Judge  string `json:"judge"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// JudgesSay is the verdict of the judges, from what Judges.Run wrote down.
func JudgesSay(r Record) history.Verdict {
	const name = "judges"
	var all []Sentence
	if err := readJSON(r.Folder, JudgesFile, &all); err != nil {
		return failed(name, err)
	}
	var f findings
	said := map[string]bool{}
	for _, s := range all {
		said[s.Judge] = true
		if !s.OK {
			f.add("%s: %s", s.Judge, s.Detail)
		}
	}
	for _, j := range allJudges {
		if !said[j] {
			f.add("%s was not asked", j)
		}
	}
	return f.verdict(name, "%d judges: %s", len(all), strings.Join(allJudges, ", "))
}

// The judges, in the order in which they are asked.
const (
	judgeVGCK   = "vgck"
	judgeLVs    = "lvs"
	judgeVGS    = "vgs"
	judgeLayout = "pvck"
	judgeIDs    = "sanlock direct dump ids"
	judgeLease  = "sanlock direct dump leases"
	judgeImages = "qemu-img check"
	judgeCheck  = "holdfast domain check"
)

var allJudges = []string{judgeVGCK, judgeLVs, judgeVGS, judgeLayout, judgeIDs, judgeLease, judgeImages, judgeCheck}

// Run asks all judges and writes down what they say, and what lies where on the LUN. The error is for what could not be written;
// a judge that cannot be asked, because its program is not installed or there is no root, has not been satisfied and says so.
func (j Judges) Run(ctx context.Context) error {
	if j.Images == 0 {
		j.Images = 50
	}
	var said []Sentence
	var lvs []LV
	var vg VG
	var layout Layout
	ask := func(judge string, f func() (string, error)) {
		detail, err := f()
		if err != nil {
			detail = err.Error()
		}
		said = append(said, Sentence{Judge: judge, OK: err == nil, Detail: detail})
	}
	if err := j.attach(ctx); err != nil {
		ask(judgeVGCK, func() (string, error) { return "", err })
	} else {
		ask(judgeVGCK, func() (string, error) { _, err := j.lvm(ctx, "vgck", j.Domain); return "", err })
		ask(judgeLVs, func() (string, error) {
			var err error
			lvs, err = j.lvs(ctx)
			return fmt.Sprintf("%d volumes", len(lvs)), err
		})
		ask(judgeVGS, func() (string, error) {
			out, err := j.lvm(ctx, "vgs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "vg_extent_size,vg_extent_count,vg_free_count", j.Domain)
			if err == nil {
				vg, err = parseVGS([]byte(out))
			}
			return fmt.Sprintf("%d extents", vg.Extents), err
		})
	}
	detached := j.detach()
	ask(judgeLayout, func() (string, error) {
		var err error
		layout, err = j.layout(ctx, lvs)
		return fmt.Sprintf("%d areas, %d texts", len(layout.Areas), len(layout.Texts)), err
	})
	ask(judgeIDs, func() (string, error) { return j.judgeIDs(ctx, lvs) })
	ask(judgeLease, func() (string, error) { return j.judgeLeases(ctx, lvs) })
	ask(judgeImages, func() (string, error) { return j.judgeImages(ctx, lvs) })
	ask(judgeCheck, func() (string, error) { return j.judgeDomain(ctx) })
	return errors.Join(detached, writeJSON(j.Folder, JudgesFile, said), writeJSON(j.Folder, LVsFile, lvs), writeJSON(j.Folder, VGFile, vg), writeJSON(j.Folder, LayoutFile, layout))
}

// judgeIDs dumps the lockspace.
func (j *Judges) judgeIDs(ctx context.Context, lvs []LV) (string, error) {
	v, err := find(lvs, "ids")
	if err != nil {
		return "", err
	}
	out, err := j.dump(ctx, v.Offset, leaseSize)
	if err == nil && strings.Count(out, j.Domain) < j.Hosts {
		err = fmt.Errorf("fewer than %d hosts in\n%s", j.Hosts, out)
	}
	return out, err
}

// judgeLeases dumps the SPM lease and those of volumes: as many as there are volumes with a slot, at least.
func (j *Judges) judgeLeases(ctx context.Context, lvs []LV) (string, error) {
	v, err := find(lvs, "leases")
	if err != nil {
		return "", err
	}
	out, err := j.dump(ctx, v.Offset+spmArea*leaseSize, leaseSize)
	if err == nil && (!strings.Contains(out, "SDM") || !strings.Contains(out, j.Domain)) {
		err = fmt.Errorf("no SPM lease in\n%s", out)
	}
	if err != nil {
		return "", err
	}
	last := 0
	for _, v := range lvs {
		last = max(last, v.Slot())
	}
	rest, err := j.dump(ctx, v.Offset, min(v.Size, int64(firstVolumeArea+last+1)*leaseSize))
	if err != nil {
		return "", err
	}
	for _, v := range lvs {
		if v.Slot() > 0 && !strings.Contains(rest, v.Name) {
			return "", fmt.Errorf("volume %s has no lease", v.Name)
		}
	}
	return out, nil
}

// judgeImages runs qemu-img check on a sample of the qcow2 volumes, evenly spread. Which volumes are qcow2 is read from their first
// bytes, not asked of the program.
func (j *Judges) judgeImages(ctx context.Context, lvs []LV) (string, error) {
	lun, err := os.Open(j.LUN)
	if err != nil {
		return "", fmt.Errorf("reading the LUN: %w", err)
	}
	defer lun.Close()
	var all []LV
	for _, v := range lvs {
		magic := make([]byte, 4)
		if v.Slot() > 0 && v.Offset >= 0 {
			if _, err := lun.ReadAt(magic, v.Offset); err != nil {
				return "", fmt.Errorf("reading volume %s: %w", v.Name, err)
			}
		}
		if string(magic) == "QFI\xfb" {
			all = append(all, v)
		}
	}
	step := max(1, (len(all)+j.Images-1)/j.Images)
	n := 0
	for i := 0; i < len(all); i += step {
		if err := j.qemuImg(ctx, all[i]); err != nil {
			return "", fmt.Errorf("volume %s: %w", all[i].Name, err)
		}
		n++
	}
	return fmt.Sprintf("%d of %d qcow2 volumes", n, len(all)), nil
}

// judgeDomain asks the program.
func (j *Judges) judgeDomain(ctx context.Context) (string, error) {
	if j.Address != "" {
		out, err := j.run(ctx, j.Program, "--address", j.Address, "-o", "json", "domain", "check", j.Domain)
		if !json.Valid([]byte(out)) { // with findings it answers and exits with 1
			return "", fmt.Errorf("asking the program: %w: %s", err, out)
		}
		if err := os.WriteFile(filepath.Join(j.Folder, CheckFile), []byte(out), 0o600); err != nil {
			return "", fmt.Errorf("keeping the program's answer: %w", err)
		}
	}
	var k api.Check
	if err := readJSON(j.Folder, CheckFile, &k); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d findings", len(k.Findings)), notClean(j.Domain, k)
}

// notClean turns what a domain check found into an error.
func notClean(domain string, k api.Check) error {
	if k.Domain != domain {
		return fmt.Errorf("the check is of domain %q, and the run's is %s", k.Domain, domain)
	}
	var bad []string
	for _, f := range k.Findings {
		if f.Severity != "note" && f.Severity != api.SeverityInfo {
			bad = append(bad, fmt.Sprintf("%s: %s: %s", f.Severity, f.Where, f.What))
		}
	}
	if len(bad) > 0 || !k.Clean {
		return fmt.Errorf("not clean: %s", strings.Join(bad, "; "))
	}
	return nil
}

// Storage are the checkers of what happened on the LUN and to the hosts. A checker that lacks what it needs fails: what was not
// checked did not pass.
func Storage() []func(Record) history.Verdict {
	return []func(Record) history.Verdict{SingleWriter, Records, Commits, LostWrites, DataWriters, Mirrored, JudgesSay, Space, Mailbox, Available, Pauses, ReadsAnswered, Logs, Goroutines, Deaths, Duels}
}
