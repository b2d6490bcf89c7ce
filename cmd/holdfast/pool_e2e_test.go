package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/procs"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// The SPM's host loses agent and keeper at once: the role goes to another host after a fencing, nothing is lost, and
// the host comes back.
func TestE2E_killSPMHost(t *testing.T) {
	p := startPool(t)
	mustCreate(t, p.client(0), "before", 5)
	before := mustSPM(t, p)
	if _, err := p.kill(before.Host); err != nil {
		t.Fatal(err)
	}
	asker := p.client(p.other(before.Host))
	v := mustCreate(t, asker, "after", 1)[0]
	if v.Epoch <= before.Epoch {
		t.Errorf("made in epoch %d, but the dead SPM had %d", v.Epoch, before.Epoch)
	}
	if after := mustSPM(t, p); after.Host == before.Host && after.Epoch == before.Epoch {
		t.Errorf("the role stayed with %s", before.Host)
	}
	mustList(t, asker, 6)
	if err := p.awaitUp(deadline(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	judgeLUN(t, p)
}

// The agent alone dies: its keeper frees the lease, and the next volume does not wait for any fencing.
func TestE2E_killSPMAgent(t *testing.T) {
	p := startPool(t)
	mustCreate(t, p.client(0), "before", 2)
	before := mustSPM(t, p)
	if err := p.killAgent(before.Host); err != nil {
		t.Fatal(err)
	}
	asker := p.client(p.other(before.Host))
	if v := mustCreate(t, asker, "after", 1)[0]; v.Epoch <= before.Epoch {
		t.Errorf("made in epoch %d, but the dead SPM had %d", v.Epoch, before.Epoch)
	}
	mustList(t, asker, 3)
}

// The role moves around while volumes are being made: no call fails, and every volume exists once.
func TestE2E_moveUnderLoad(t *testing.T) {
	p := startPool(t)
	ctx := deadline(t, 90*time.Second)
	g, ctx := errgroup.WithContext(ctx)
	var made atomic.Int32
	stop := make(chan struct{})
	for w := range 3 {
		g.Go(func() error {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return nil
				default:
				}
				name := fmt.Sprintf("w%d-%d", w, i)
				if _, err := p.client(w).CreateVolume(ctx, api.VolumeCreate{Name: name, Size: gib, InitialSize: 128 << 20}, ""); err != nil {
					return fmt.Errorf("creating %s: %w", name, err)
				}
				made.Add(1)
			}
		})
	}
	g.Go(func() error {
		defer close(stop)
		for _, to := range []string{"h2", "h3", "h1"} {
			atLeast := made.Load() + 3
			if err := poll(ctx, "volumes are made between moves", enough(&made, atLeast)); err != nil {
				return err
			}
			spm, err := p.client(0).MoveSPM(ctx, api.SPMMove{To: to})
			if err != nil {
				return fmt.Errorf("moving to %s: %w", to, err)
			}
			if spm.Host != to {
				return fmt.Errorf("moved to %s, and the SPM is %s", to, spm.Host)
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	mustList(t, p.client(1), int(made.Load()))
	judgeLUN(t, p)
}

func enough(made *atomic.Int32, n int32) func() error {
	return func() error {
		if made.Load() < n {
			return errors.New("not yet")
		}
		return nil
	}
}

// A stop and a second start bring the same pool back; so does a start after the supervisor was killed, which must not
// leave a process behind.
func TestE2E_restartOnTheSameDirectory(t *testing.T) {
	p := startPool(t)
	first := p.file()
	vols := mustCreate(t, p.client(0), "kept", 3)
	stopPool(t, p)
	if _, err := os.Stat(devFilePath(p.dir)); err == nil {
		t.Error("dev.json says that the stopped pool is ready")
	}

	p = startPoolIn(t, p.dir)
	second := p.file()
	if first.Pool != second.Pool || first.Domain != second.Domain || second.API != first.API {
		t.Errorf("another pool came back: %+v, was %+v", second, first)
	}
	mustList(t, p.client(1), len(vols))
	t.Run("a second supervisor is refused", func(t *testing.T) {
		status, _, stderr := cli(t, "dev", "--data-dir", p.dir)
		if status != exitFailed || !strings.Contains(stderr, "another `holdfast dev` runs") {
			t.Errorf("status %d, %s", status, stderr)
		}
	})

	p.killSupervisor()
	testutil.Retry(t, 20*time.Second, func() error { return p.leftOvers(second) })
	p = startPoolIn(t, p.dir)
	mustList(t, p.client(2), len(vols))
	mustCreate(t, p.client(2), "again", 1)
	judgeLUN(t, p)
}

// What goes wrong with a request is said clearly and loses nothing.
func TestE2E_requests(t *testing.T) {
	p := startPool(t)
	t.Run("a retry with the same key", func(t *testing.T) { retryWithKey(t, p) })
	t.Run("a retry after the reply was lost with the SPM", func(t *testing.T) { retryAfterKill(t, p) })
	t.Run("bad sizes and names", func(t *testing.T) { badVolumes(t, p) })
	t.Run("a second agent on a data directory", func(t *testing.T) { secondAgent(t, p) })
}

func retryWithKey(t *testing.T, p *devProcess) {
	req := api.VolumeCreate{Name: "once", Size: 10 * gib}
	ctx := deadline(t, 20*time.Second)
	a, err := p.client(0).CreateVolume(ctx, req, "key-1")
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.client(1).CreateVolume(ctx, req, "key-1")
	if err != nil || b.ID != a.ID {
		t.Errorf("the retry gave %s, %v; the first was %s", b.ID, err, a.ID)
	}
	req.Size = 20 * gib
	_, err = p.client(2).CreateVolume(ctx, req, "key-1")
	wantCode(t, err, api.CodeConflict)
	_, err = p.client(0).CreateVolume(ctx, req, "key-2")
	wantCode(t, err, api.CodeNameTaken)
}

func retryAfterKill(t *testing.T, p *devProcess) {
	req := api.VolumeCreate{Name: "lost", Size: gib}
	a, err := p.client(0).CreateVolume(deadline(t, 20*time.Second), req, "key-lost")
	if err != nil {
		t.Fatal(err)
	}
	spm := mustSPM(t, p)
	if _, err := p.kill(spm.Host); err != nil {
		t.Fatal(err)
	}
	b, err := p.client(p.other(spm.Host)).CreateVolume(deadline(t, 60*time.Second), req, "key-lost")
	if err != nil || b.ID != a.ID {
		t.Errorf("after the takeover the retry gave %s, %v; the first was %s", b.ID, err, a.ID)
	}
	if err := p.awaitUp(deadline(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
}

func badVolumes(t *testing.T, p *devProcess) {
	before, _, err := p.client(0).Volumes(t.Context(), client.VolumeFilter{}, client.Read{Consistent: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		want int
	}{
		"size 0":            {[]string{"--size", "0", "--name", "x"}, exitFailed},
		"negative size":     {[]string{"--size", "-5GiB", "--name", "x"}, exitUsage},
		"absurd size":       {[]string{"--size", "999999999PiB", "--name", "x"}, exitUsage},
		"larger than 8 TiB": {[]string{"--size", "9000TiB", "--name", "x"}, exitFailed},
		"odd name":          {[]string{"--size", "1GiB", "--name", "a\nb"}, exitFailed},
		"unknown format":    {[]string{"--size", "1GiB", "--name", "x", "--format", "vhd"}, exitFailed},
		"raw without room":  {[]string{"--size", "1TiB", "--name", "x", "--format", "raw"}, exitFailed},
	} {
		status, _, stderr := cli(t, append([]string{"--address", p.file().API, "volume", "create"}, tt.args...)...)
		if status != tt.want && !(tt.want == exitFailed && status == exitUsage) || stderr == "" {
			t.Errorf("%s: status %d, %q; want status %d and a reason", name, status, stderr, tt.want)
		}
	}
	mustList(t, p.client(0), len(before))
}

func secondAgent(t *testing.T, p *devProcess) {
	h := p.file().Hosts[0]
	status, _, stderr := cli(t, "agent", "--config", filepath.Join(h.DataDir, "agent.yaml"))
	if status == exitOK || !strings.Contains(stderr, h.DataDir) {
		t.Errorf("status %d, %q; want a refusal that names the directory", status, stderr)
	}
	if got := p.file().Hosts[0]; got != h {
		t.Errorf("the first agent changed: %+v, was %+v", got, h)
	}
	if pid, err := procs.Open(h.PID); err != nil {
		t.Errorf("the first agent is gone: %v", err)
	} else {
		pid.Close()
	}
}

// wantCode checks the code of an API error.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("got %v, want code %s", err, code)
	}
}
