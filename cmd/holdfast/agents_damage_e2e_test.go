package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// damage is one thing that is broken on a LUN while nobody uses it.
type damage struct {
	name  string
	do    func(t *testing.T, lun string, p places)
	check string // what `domain check` must say; empty: it does not look there
	log   string // what the agent's log must say; empty: nothing, because the pool works
}

var damages = []damage{
	{"PV label", func(t *testing.T, lun string, _ places) { flip(t, lun, labelAt, 512) }, `(?i)label|physical volume`, `(?i)label|physical volume`},
	{"one byte of the PV label", func(t *testing.T, lun string, _ places) { flip(t, lun, labelAt+40, 1) }, `(?i)label|physical volume`, `(?i)label|physical volume`},
	{"metadata area's header", func(t *testing.T, lun string, _ places) { flip(t, lun, headerAt+44, 4) }, `header is corrupt at bytes 4096`, ""},
	{"metadata text", func(t *testing.T, lun string, p places) { flip(t, lun, p.text+p.textLen/2, 8) }, `text is corrupt at bytes`, ""},
	{"a tag in one copy of the VG", func(t *testing.T, lun string, _ places) {
		editText(t, lun, "MDT_DESCRIPTION=master", "MDT_DESCRIPTION=mister")
	}, `contradicting copies`, `contradicting copies`},
	{"a volume's metadata", func(t *testing.T, lun string, p places) { flip(t, lun, p.slot, 512) }, `(?i)slot|metadata`, ""},
	{"a volume's lease", func(t *testing.T, lun string, p places) { flip(t, lun, p.lease, 512) }, `(?i)lease`, ""},
	{"the SPM lease", func(t *testing.T, lun string, p places) { flip(t, lun, p.sdm, 512) }, `(?i)SDM|SPM`, `(?i)SDM`},
	{"our sector of the lockspace", func(t *testing.T, lun string, p places) { flip(t, lun, p.ids, 512) }, `ids, host id 1`, `(?i)lockspace|host id`},
}

// Each kind of damage is told apart, what is readable is still shown, and nothing more is lost.
func TestBadInput_damagedLUN(t *testing.T) {
	p := newAgentPool(t, 1, newLUN(t, 12*gib), nil)
	a := p.agents[0]
	vols := mustCreate(t, a.Client, "v", 3)
	a.halt(t)
	saved := filepath.Join(shortDir(t), "lun.img")
	copyTree(t, p.lun, saved)
	copyTree(t, a.conf.DataDir, saved+".data")
	at := findPlaces(t, p.lun, vols[1].ID)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			copyTree(t, saved, p.lun)
			copyTree(t, saved+".data", a.conf.DataDir)
			if err := os.Truncate(a.log, 0); err != nil {
				t.Fatal(err)
			}
			d.do(t, p.lun, at)
			a.again(t)
			d.judge(t, a, vols)
			a.alive(t)
			a.halt(t)
		})
	}
	t.Run("as it was", func(t *testing.T) {
		copyTree(t, saved, p.lun)
		copyTree(t, saved+".data", a.conf.DataDir)
		a.again(t)
		awaitSPM(t, a, 30*time.Second)
		mustCreate(t, a.Client, "after", 1)
		mustList(t, a.Client, 4)
		var check api.Check
		mustJSON(t, a, &check, "domain", "check", "master")
	})
}

func (d damage) judge(t *testing.T, a *testAgent, vols []api.VolumeCreated) {
	t.Helper()
	ctx := deadline(t, 30*time.Second)
	if err := poll(ctx, "the mirror shows the volumes", func() error {
		l, _, err := a.Volumes(ctx, client.VolumeFilter{}, client.Read{})
		if err == nil && len(l) != len(vols) {
			err = errNotThere
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if d.log == "" {
		if v, err := a.CreateVolume(ctx, api.VolumeCreate{Name: "beside", Size: gib}, ""); err != nil || !v.Mirrored {
			t.Errorf("beside the damage: %+v, %v", v, err)
		}
	} else {
		d.judgeLog(t, a)
		status, stdout, stderr := cli(t, "--address", socket(a), "volume", "create", "--name", "no", "--size", "1GiB", "--timeout", "3s")
		if status == exitOK || status == exitUsage {
			t.Errorf("a create on the damaged LUN: status %d, %s %s", status, stdout, stderr)
		}
	}
	if d.check == "" {
		return
	}
	status, stdout, stderr := cli(t, "--address", socket(a), "domain", "check", "master")
	if status != exitFailed || !regexp.MustCompile(d.check).MatchString(stdout+stderr) {
		t.Errorf("domain check: status %d, %s %s; want status 1 and %s", status, stdout, stderr, d.check)
	}
	if e, err := parseRefusal(stderr); stderr != "" && (err != nil || e.Code != api.CodeCorrupt || e.NextStep == "") {
		t.Errorf("domain check gave up with %s; want code corrupt and a next step", stderr)
	}
}

// judgeLog waits until the agent's log says why there is no SPM.
func (d damage) judgeLog(t *testing.T, a *testAgent) {
	t.Helper()
	want := regexp.MustCompile(d.log)
	ctx := deadline(t, 20*time.Second)
	if err := poll(ctx, "the log says what is wrong", func() error {
		b, err := os.ReadFile(a.log)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(b) {
			if s := string(line); (strings.Contains(s, "level=ERROR") || strings.Contains(s, "level=WARN")) && want.MatchString(s) {
				return nil
			}
		}
		return errNotThere
	}); err != nil {
		t.Errorf("%v; the log has no error that says %s: %v", err, d.log, tail(a.log, 5))
	}
}
