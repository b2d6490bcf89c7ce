package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/config"
	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/lun"
)

// ownSocketLUN is the second LUN's address on every host: a socket in the host's data directory, so each host has a path of its own.
const ownSocketLUN = "nbd+unix:///lun?socket=lun.sock"

// servedLUN is a LUN whose paths can be made to hang.
type servedLUN struct {
	*lun.LUN
	t *testing.T
}

func serveLUN(t *testing.T) servedLUN {
	t.Helper()
	dir := shortDir(t)
	log, err := history.NewLog[history.Entry](dir, history.WritesFile)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	l, err := lun.New(filepath.Join(dir, "second.img"), 32*gib, log, func() time.Duration { return time.Since(begun) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return servedLUN{l, t}
}

// attach gives a host its path.
func (l servedLUN) attach(c *config.Agent) {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		l.t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(c.DataDir, "lun.sock")) //nolint:noctx // does not wait
	if err != nil {
		l.t.Fatal(err)
	}
	l.Attach(c.Name, ln)
	c.Devices = append(c.Devices, ownSocketLUN)
}

// awaitDomain waits until a domain is as it should be, by the mirror of one host.
func awaitDomain(t *testing.T, a *testAgent, name, what string, ok func(api.Domain) bool) api.Domain {
	t.Helper()
	var d api.Domain
	err := poll(deadline(t, 90*time.Second), what, func() (err error) {
		if d, _, err = a.Domain(t.Context(), name, client.Read{}); err == nil && !ok(d) {
			err = fmt.Errorf("it is %s (%s), failing on %v", d.Status, d.Reason, d.FailingHosts)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func domainIs(status string) func(api.Domain) bool {
	return func(d api.Domain) bool { return d.Status == status }
}

// A second domain's LUN hangs, for one host and then for all. The domain says so and comes back by itself; the other one is used
// meanwhile as if nothing were the matter. Then the domain goes into maintenance and comes back.
func TestE2E_lunHangs(t *testing.T) {
	l := serveLUN(t)
	p := newAgentPool(t, 3, newLUN(t, 64*gib), l.attach)
	spm := p.awaitSPM(t)
	a := p.other(spm.Host)
	var d api.DomainCreated
	mustJSON(t, a, &d, "domain", "create", "--name", "second", ownSocketLUN)
	awaitDomain(t, a, "second", "every host reaches it", func(d api.Domain) bool {
		return d.Status == api.DomainActive && len(d.FailingHosts) == 0
	})
	createIn(t, a, "second", "first")

	one := p.third(spm.Host, a.conf.Name)
	l.Path(one.conf.Name).Hang()
	shown := awaitDomain(t, a, "second", one.conf.Name+" is named", func(d api.Domain) bool { return slices.Equal(d.FailingHosts, []string{one.conf.Name}) })
	if shown.Status != api.DomainActive || !strings.Contains(shown.Reason, one.conf.Name) {
		t.Errorf("%+v", shown)
	}
	createIn(t, a, "second", "while-one-hangs")
	for _, path := range p.agents {
		l.Path(path.conf.Name).Hang()
	}
	for i := range 5 {
		createIn(t, a, "master", fmt.Sprintf("while-all-hang-%d", i))
	}
	shown = awaitDomain(t, a, "second", "nobody reaches it", domainIs(api.DomainInactive))
	if len(shown.FailingHosts) == 0 || shown.Since.IsZero() {
		t.Errorf("%+v", shown)
	}
	for i := range 5 {
		createIn(t, a, "master", fmt.Sprintf("while-it-is-inactive-%d", i))
	}
	if status, stdout, _ := cli(t, "--address", socket(a), "status"); status == exitOK && !strings.Contains(stdout, "second") {
		t.Errorf("the status does not name the domain:\n%s", stdout)
	}
	for _, path := range p.agents {
		l.Path(path.conf.Name).Release(true)
	}
	awaitDomain(t, a, "second", "every host reaches it again", func(d api.Domain) bool { return d.Status == api.DomainActive && len(d.FailingHosts) == 0 })
	createIn(t, a, "second", "after-it-came-back")
	for _, a := range p.agents {
		a.alive(t)
	}
	t.Run("maintenance", func(t *testing.T) { domainMaintenance(t, p) })
}

// third is the agent that is none of those named.
func (p *agentPool) third(names ...string) *testAgent {
	for _, a := range p.agents {
		if !slices.Contains(names, a.conf.Name) {
			return a
		}
	}
	return p.agents[0]
}

// createIn makes a volume, which must work; a domain that is being opened is asked again.
func createIn(t *testing.T, a *testAgent, domain, name string) {
	t.Helper()
	ctx := deadline(t, 60*time.Second)
	err := poll(ctx, "a volume in "+domain, func() error {
		_, err := a.CreateVolume(ctx, api.VolumeCreate{Name: name, Size: gib, Format: api.FormatQCOW2, Domain: domain}, name)
		return err
	})
	if err != nil {
		t.Fatalf("volume %s: %v", name, err)
	}
}

// domainMaintenance takes the second domain out of use and back.
func domainMaintenance(t *testing.T, p *agentPool) {
	a := p.agents[1]
	refusal(t, a, api.CodeConflict, "domain", "deactivate", "master")
	refusal(t, a, api.CodeNotFound, "domain", "activate", "third")
	id := uuid.NewString()
	cliOK(t, a, "lease", "create", id, "--domain", "second")
	cliOK(t, a, "lease", "acquire", id, "--domain", "second", "--vm", "vm-1")
	err := poll(deadline(t, 60*time.Second), "the lease is seen to be held", func() error {
		_, err := a.DeactivateDomain(t.Context(), "second", api.DomainWish{})
		if e := asError(err); e.Code != api.CodeConflict || !strings.Contains(e.Message, id) || !strings.Contains(e.Message, a.conf.Name) {
			return fmt.Errorf("%w: %w", errNotThere, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitDomain(t, a, "second", "it is in use", domainIs(api.DomainActive))
	cliOK(t, a, "lease", "release", id, "--domain", "second", "--vm", "vm-1")
	err = poll(deadline(t, 90*time.Second), "the domain is in maintenance", func() error {
		_, err := a.DeactivateDomain(t.Context(), "second", api.DomainWish{Reason: "firmware"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d := awaitDomain(t, a, "second", "maintenance", domainIs(api.DomainMaintenance))
	if !strings.Contains(d.Reason, "firmware") {
		t.Errorf("%+v", d)
	}
	refusal(t, a, api.CodeConflict, "volume", "create", "--name", "no", "--size", "1GiB", "--domain", "second")
	refusal(t, a, api.CodeConflict, "lease", "acquire", id, "--domain", "second", "--vm", "vm-1")
	cliOK(t, a, "domain", "deactivate", "second") // once more
	cliOK(t, a, "domain", "activate", "second")
	createIn(t, a, "second", "after-maintenance")
	vols, _, err := a.Volumes(deadline(t, 20*time.Second), client.VolumeFilter{Domain: "second"}, client.Read{Consistent: true})
	if err != nil || len(vols) != 4 {
		t.Errorf("%d volumes, %v", len(vols), err)
	}
}

// cliOK runs a verb that must work.
func cliOK(t *testing.T, a *testAgent, args ...string) {
	t.Helper()
	if status, _, stderr := cli(t, append([]string{"--address", socket(a)}, args...)...); status != exitOK {
		t.Fatalf("holdfast %v: status %d, %s", args, status, stderr)
	}
}
