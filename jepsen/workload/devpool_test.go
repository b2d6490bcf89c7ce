package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// devPool is a `holdfast dev` with three hosts.
type devPool struct {
	dir  string
	file struct {
		Domain string `json:"domain"`
		LUN    string `json:"lun"`
		Hosts  []struct {
			Name      string `json:"name"`
			PID       int    `json:"pid"`
			KeeperPID int    `json:"keeper_pid"`
			HTTP      string `json:"http"`
		} `json:"hosts"`
	}
}

// startDevPool builds the program and starts a pool that is stopped at the end of the test.
func startDevPool(t *testing.T) *devPool {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-jw-") // t.TempDir is too long for the names of sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary := filepath.Join(dir, "holdfast")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // the first build of a machine takes its time
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/holdfast-io/holdfast/cmd/holdfast")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	p := &devPool{dir: filepath.Join(dir, "p")}
	cmd := exec.Command(binary, "dev", "--data-dir", p.dir, "--lun-size", "64GiB")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() { stop(t, cmd, exited) })
	testutil.Retry(t, 60*time.Second, p.load)
	return p
}

func stop(t *testing.T, cmd *exec.Cmd, exited <-chan error) {
	_ = cmd.Process.Signal(syscall.SIGTERM) // fails when it has exited, which is what we want
	select {
	case <-exited:
	case <-time.After(60 * time.Second):
		t.Error("the pool did not stop in time")
		_ = cmd.Process.Kill()
		<-exited
	}
}

// load reads dev.json.
func (p *devPool) load() error {
	b, err := os.ReadFile(filepath.Join(p.dir, "dev.json"))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, &p.file)
}

func (p *devPool) hosts() []Host {
	var hosts []Host
	for _, h := range p.file.Hosts {
		hosts = append(hosts, Host{Name: h.Name, Client: client.Config{Address: h.HTTP}})
	}
	return hosts
}

// killSPM kills agent and keeper of the SPM's host and says which that was.
func (p *devPool) killSPM(ctx context.Context) (string, error) {
	s, err := p.status(ctx)
	if err != nil {
		return "", err
	}
	if err := p.load(); err != nil {
		return "", err
	}
	for _, h := range p.file.Hosts {
		if h.Name == s.SPM.Host && h.PID > 0 && h.KeeperPID > 0 {
			return h.Name, errors.Join(syscall.Kill(h.PID, syscall.SIGKILL), syscall.Kill(h.KeeperPID, syscall.SIGKILL))
		}
	}
	return "", fmt.Errorf("SPM %q has no processes", s.SPM.Host)
}

// status asks the leader through any host that answers.
func (p *devPool) status(ctx context.Context) (s api.Status, err error) {
	for _, h := range p.file.Hosts {
		c, cerr := client.New(client.Config{Address: h.HTTP, Timeout: 5 * time.Second})
		if cerr != nil {
			return s, cerr
		}
		s, _, err = c.Status(ctx, client.Read{Consistent: true})
		c.Close()
		if err == nil {
			return s, nil
		}
	}
	return s, err
}

// healed tells whether all hosts are up and somebody serves.
func (p *devPool) healed(ctx context.Context) error {
	s, err := p.status(ctx)
	if err != nil {
		return err
	}
	if s.SPM.State != api.SPMServing {
		return fmt.Errorf("nobody serves: %s", s.SPM.Reason)
	}
	for _, h := range s.Hosts {
		if h.State != "up" {
			return fmt.Errorf("%s is %s: %s", h.Name, h.State, h.Reason)
		}
	}
	return nil
}

// onLUN lists the LVs that are volumes, as lvm sees them.
func (p *devPool) onLUN(t *testing.T) []history.VolumeRef {
	t.Helper()
	testutil.NeedRoot(t)
	testutil.NeedTool(t, "lvm", "losetup")
	dev := strings.TrimSpace(testutil.Run(t, "losetup", "--find", "--show", "--read-only", p.file.LUN))
	defer testutil.Run(t, "losetup", "--detach", dev)
	config := fmt.Sprintf(`devices { filter=["a|^%s$|","r|.*|"] global_filter=["a|^%s$|","r|.*|"] use_devicesfile=0 hints="none" `+
		`obtain_device_list_from_udev=0 } global { locking_type=1 event_activation=0 use_lvmpolld=0 } backup { backup=0 archive=0 }`, dev, dev)
	var refs []history.VolumeRef
	for _, name := range strings.Fields(testutil.Run(t, "lvm", "lvs", "--config", config, "--noheadings", "-o", "lv_name", p.file.Domain)) {
		if _, err := uuid.Parse(name); err == nil {
			refs = append(refs, history.VolumeRef{ID: name})
		}
	}
	return refs
}
