package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/apitest"
)

var updateGolden = flag.Bool("update", false, "rewrite the golden files")

// fakePool serves a fake pool and returns its address.
func fakePool(t *testing.T) (*apitest.Fake, string) {
	t.Helper()
	f := apitest.New()
	srv := httptest.NewServer(httpapi.New(httpapi.Config{Host: "h1"}, f.Backend()).For(httpapi.Local("test")))
	t.Cleanup(srv.Close)
	return f, srv.URL
}

// runCLI runs one command line.
func runCLI(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func goldenOutput(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "cli", name)
	if *updateGolden {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("output changed; run with -update if it should\n--- got\n%s--- want\n%s", got, want)
	}
}

func TestCLI_goldenOutput(t *testing.T) {
	t.Parallel()
	warn := api.Warning{Severity: api.SeverityError, Subject: "host/h3", Message: "no answer for 21s", NextStep: "holdfast host show h3"}
	for name, args := range map[string]string{
		"status":             "status",
		"status.json":        "status -o json",
		"host-show":          "host show h3",
		"host-show.json":     "host show h1 -o json",
		"host-set":           "host set h2 --priority 9",
		"host-maintenance":   "host maintenance h2 --reason memory",
		"host-preparing":     "host maintenance h1 --wait 0s",
		"host-activate.json": "host activate h3 -o json",
		"host-confirm":       "host confirm-rebooted h3 --force --reason unplugged",
		"host-remove":        "host remove h3 --force --reason burnt",
		"domain-create":      "domain create --name san2 /dev/sdb",
		"domain-list":        "domain list",
		"domain-show":        "domain show san1",
		"domain-extend":      "domain extend san1 --lun /dev/sdc",
		"domain-set-master":  "domain set-master san1 --reason moved",
		"domain-reconstruct": "domain set-master san1 --reconstruct --reason burnt --force --dead h3",
		"domain-activate":    "domain activate san1",
		"domain-deactivate":  "domain deactivate san1 --reason firmware",
		"image-list":         "image list --domain san1",
		"image-list.json":    "image list -o json",
		"image-show":         "image show web1",
		"image-snapshot":     "image snapshot web1 --name before",
		"volume-create":      "volume create --name v1 --size 10GiB --format raw",
		"volume-create.json": "volume create --name v1 --size 10GiB --format qcow2 -o json",
		"volume-list":        "volume list",
		"volume-list.json":   "volume list -o json",
		"volume-show":        "volume show web1 --consistent",
		"volume-update":      "volume update web1 --name web2 --description shop",
		"volume-update.json": "volume update web1 --name web2 -o json",
		"volume-extend":      "volume extend web1 --size 20GiB --wait 2s --paused --full-in 1500ms",
		"volume-extend.json": "volume extend web1 --size 1GiB -o json",
		"volume-delete":      "volume delete web1",
		"volume-attached":    "volume list --attached",
		"volume-attach":      "volume attach web1",
		"volume-attach.json": "volume attach web1 --read-only -o json",
		"volume-detach":      "volume detach web1 --force",
		"mailbox-show":       "mailbox show",
		"mailbox-show.json":  "mailbox show -o json",
		"domain-set":         "domain set san1 --warn-free 15% --critical-free 8GiB",
		"lease-create":       "lease create 9d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02",
		"lease-list":         "lease list",
		"lease-startable":    "lease list --startable",
		"lease-show-proven":  "lease show san1/9a1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02",
		"lease-show":         "lease show 6d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02 --domain san1",
		"lease-show.json":    "lease show 6D1F0C52-51d1-4f0e-8d2b-7d5a0f3f2b02 -o json",
		"lease-delete":       "lease delete 6d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02 --force",
		"lease-rebuild":      "lease rebuild",
		"spm-status":         "spm status",
		"spm-status.json":    "spm status -o json",
		"host-fence":         "host fence h3 --reason hung --force",
		"host-fence.json":    "host fence h3 --reason hung -o json",
		"power-add":          "host power add h3 --type ipmi --device bmc --device-address 10.1.0.3 --user fence --order 1 --option cipher=17 --through h2",
		"power-remove":       "host power remove h3 bmc",
		"power-list":         "host power list h3",
		"power-list.json":    "host power list h3 -o json",
		"power-status":       "host power status h3",
		"power-test":         "host power test h3",
		"power-off":          "host power off h3 --reason work",
		"power-on":           "host power on h3",
		"power-restart":      "host power restart h3 --reason stuck",
		"power-save":         "host power-save",
		"power-save-on":      "host power-save on --reserve 1 --idle 30m",
		"fencing-show":       "fencing show",
		"fencing-show.json":  "fencing show -o json",
		"fencing-set":        "fencing set grace=45s quiet=default restart=false",
		"fencing-arm":        "fencing arm",
		"fencing-disarm":     "fencing disarm --for 1h --reason switches",
		"fencing-history":    "fencing history --host h3 --steps",
		"spm-move":           "spm move h2 --reason work",
		"spm-stop":           "spm stop",
		"spm-start":          "spm start",
		"events":             "events",
		"raft-list-peers":    "operator raft list-peers",
		"raft-transfer":      "operator raft transfer h2",
		"token-create":       "operator token create --role read --ttl 1h",
		"token-list":         "operator token list",
		"token-revoke":       "operator token revoke k7x2",
		"init":               "init --pool prod /dev/sdb",
		"join":               "join 10.0.0.1:7420 --token a.b.c",
		"leave":              "leave",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, addr := fakePool(t)
			f.Warn(warn)
			status, out, errs := runCLI(t, append(strings.Fields(args), "--address", addr)...)
			if status != exitOK || errs != "" {
				t.Fatalf("status %d: %s", status, errs)
			}
			goldenOutput(t, name, out)
		})
	}
}

func TestCLI_checkFindsSomething(t *testing.T) {
	t.Parallel()
	_, addr := fakePool(t)
	status, out, errs := runCLI(t, "domain", "check", "san1", "--address", addr)
	if status != exitFailed || errs != "" {
		t.Errorf("status %d, %s", status, errs)
	}
	goldenOutput(t, "domain-check", out)
}

// Nobody serves: what is awaited, and for how long still.
func TestCLI_spmStatusOfNobody(t *testing.T) {
	t.Parallel()
	f, addr := fakePool(t)
	f.Role(api.SPM{Epoch: 3, State: api.SPMNone, Since: apitest.Now, Desired: "any", Reason: "h1 does not answer",
		Explained: &api.SPMExplained{Leader: "h2", At: apitest.Now, Row: "unreachable, awaiting dead", Why: "h1 does not answer and has no fence agent",
			Awaits: "its lease to be dead", InSeconds: 17.34, Next: []api.SPMHeir{{Host: "h3", Able: true, Why: "priority 5"},
				{Host: "h2", Why: "failed to start 2 times, and is not asked for a while", InSeconds: 1.5}}}})
	for name, args := range map[string][]string{"spm-status-none": {"spm", "status"}, "spm-status-none.json": {"spm", "status", "-o", "json"}} {
		status, out, errs := runCLI(t, append(args, "--address", addr)...)
		if status != exitOK || errs != "" {
			t.Errorf("status %d: %s", status, errs)
		}
		goldenOutput(t, name, out)
	}
}

// A host that cannot go to maintenance yet: what keeps it is named, and scripts see that it is not there.
func TestCLI_maintenanceBlocked(t *testing.T) {
	t.Parallel()
	_, addr := fakePool(t)
	status, out, errs := runCLI(t, "host", "maintenance", "h1", "--address", addr)
	if status != exitFailed || !strings.Contains(errs, "attached volume web1") || !strings.Contains(out, api.HostPreparing) {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
}

func TestCLI_usageErrors(t *testing.T) {
	t.Parallel()
	_, addr := fakePool(t)
	for _, args := range []string{
		"", "volume", "nothing", "volume nothing", "volume list extra", "volume create --size 1GiB", "volume create --name v",
		"volume create --name v --size huge", "volume create --name v --size -1GiB", "volume create --name v --size 1e3",
		"volume create --name v --size 99999999TiB", "volume create --name v --size 0.3", "volume create --name v --size 10Gb2",
		"volume show", "image snapshot", "image show", "domain extend san1", "domain extend --lun /dev/sdc", "domain set-master", "domain set-master san1 --force", "domain set-master san1 --reconstruct",
		"domain set-master san1 --reconstruct --reason x --dead h3", "host remove h3 --force", "host set h1", "host maintenance", "host maintenance h1 --wait 1h", "host activate h1 --wait -1s", "volume update web1", "volume update --name x",
		"volume extend web1", "volume extend --size 1GiB", "volume extend web1 --size huge", "volume extend web1 --size 1GiB --wait 5", "domain set san1",
		"domain set san1 --warn-free a", "domain set san1 --warn-free 101%", "domain set san1 --critical-free x", "mailbox", "mailbox show h1", "status -o yaml", "status --no-such-flag", "status --address ftp://x", "status --ca /does/not/exist",
		"join a:1", "join a:1 --token x --join-token-file y", "operator token create --ttl 0s", "operator raft", "domain create --name x",
	} {
		full := strings.Fields(args)
		if args != "" && !strings.Contains(args, "--address") {
			full = append(full, "--address", addr)
		}
		if status, _, errs := runCLI(t, full...); status != exitUsage && args != "" {
			t.Errorf("%q: status %d: %s", args, status, errs)
		}
	}
}

func TestCLI_errorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	f, addr := fakePool(t)
	f.Fail(&api.Error{
		Code: api.CodeNoSPM, Message: "no host serves as SPM", Holder: "h3", Epoch: 3, RetryAfter: 2 * time.Second, NextStep: "look at holdfast status",
	})
	status, out, errs := runCLI(t, "volume", "list", "--address", addr)
	if status != exitFailed || out != "" {
		t.Errorf("status %d, output %q", status, out)
	}
	goldenOutput(t, "error", errs)
}

func TestCLI_outcomeUnknown(t *testing.T) {
	t.Parallel()
	f, addr := fakePool(t)
	f.Fail(api.Errorf(api.CodeOutcomeUnknown, "list the volumes", "the write may land later"))
	status, _, errs := runCLI(t, "volume", "create", "--name", "v", "--size", "1GiB", "--address", addr)
	if status != exitUnknown {
		t.Errorf("status %d", status)
	}
	goldenOutput(t, "unknown", errs)
}

// The agent makes the volume, and its answer is lost: the second request with the same key gets the same volume.
func TestCLI_lostAnswerIsRepeatedWithTheSameKey(t *testing.T) {
	t.Parallel()
	f := apitest.New()
	h := httpapi.New(httpapi.Config{Host: "h1"}, f.Backend()).For(httpapi.Local("test"))
	var served atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served.Swap(true) {
			h.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	status, out, errs := runCLI(t, "volume", "create", "--name", "v", "--size", "1GiB", "-o", "json", "--address", srv.URL)
	var v api.VolumeCreated
	if err := json.Unmarshal([]byte(out), &v); err != nil || status != exitOK {
		t.Fatalf("status %d, %v: %s", status, err, errs)
	}
	if f.Creates() != 1 || v.Name != "v" {
		t.Errorf("%d made, %+v", f.Creates(), v)
	}
}

// A change that could happen twice is not repeated.
func TestCLI_lostAnswerOfAMoveIsUnknown(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	if status, _, errs := runCLI(t, "spm", "move", "--address", srv.URL); status != exitUnknown || n.Load() != 1 {
		t.Errorf("status %d after %d requests: %s", status, n.Load(), errs)
	}
	if status, _, _ := runCLI(t, "spm", "status", "--address", srv.URL); status != exitFailed {
		t.Errorf("a question: status %d", status)
	}
}

func TestCLI_noAgent(t *testing.T) {
	t.Parallel()
	status, _, errs := runCLI(t, "volume", "create", "--name", "v", "--size", "1GiB", "--address", "unix:///does/not/exist.sock")
	if status != exitFailed || !strings.Contains(errs, "next step") {
		t.Errorf("status %d: %s", status, errs)
	}
}

func TestCLI_completionAndVersion(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"completion bash", "completion zsh", "version", "version -o json", "help", "volume create --help"} {
		if status, out, errs := runCLI(t, strings.Fields(args)...); status != exitOK || out == "" {
			t.Errorf("%s: status %d: %s", args, status, errs)
		}
	}
	_, addr := fakePool(t)
	if _, out, _ := runCLI(t, "__complete", "--address", addr, "host", "show", ""); !strings.Contains(out, "h2\n") {
		t.Errorf("completion: %q", out)
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"0": 0, "512": 512, "1k": 1024, "1KiB": 1024, "10GiB": 10 << 30, "10g": 10 << 30, "1.5T": 3 << 39, "8 TiB": 8 << 40, "100B": 100,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "GiB", "-1", "+1", "1e9", "1GB", "0x10", "1..2G", "0.3", "1,5G", "99999999P", "99999999999999999999", "١٢G", "NaN", "1 G iB"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q: %d", in, got)
		}
	}
}

func TestFormatSize_readsBack(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 1, 512, 1024, 128 << 20, 3 << 29, 10 << 30, 8 << 40} {
		if got, err := parseSize(formatSize(n)); err != nil || got != n {
			t.Errorf("%d prints as %s, which is %d, %v", n, formatSize(n), got, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"10GiB", "1.5T", "0", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseSize(s); err == nil && n < 0 {
			t.Errorf("%q: %d", s, n)
		}
	})
}
