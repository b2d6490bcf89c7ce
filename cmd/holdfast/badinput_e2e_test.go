package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/config"
)

// Requests that can never work are refused before anything happens, and say what is wrong with them.
func TestBadInput_requests(t *testing.T) {
	p := newAgentPool(t, 1, newLUN(t, 32*gib), nil)
	a := p.agents[0]
	kept := mustCreate(t, a.Client, "kept", 2)
	t.Run("together", func(t *testing.T) {
		for name, f := range map[string]func(*testing.T, *testAgent){
			"names": oddNames, "sizes": oddSizes, "bodies": oddBodies, "references": oddReferences, "keys": oddKeys,
			"deletes": racingDeletes, "creates": racingCreates,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f(t, a)
			})
		}
	})
	for _, v := range kept {
		if got, _, err := a.Volume(deadline(t, 10*time.Second), v.ID, client.Read{}); err != nil || got.Name != v.Name {
			t.Errorf("%s: %+v, %v", v.Name, got, err)
		}
	}
	mustList(t, a.Client, len(kept))
	var check api.Check
	mustJSON(t, a, &check, "domain", "check", "master")
	a.alive(t)
}

func oddNames(t *testing.T, a *testAgent) {
	for _, name := range []string{
		"", " ", "a b", "größe", "名前", "a\nb", "a\tb", "a\x00b", "\x1b[31mred", "a/b", "../x", "..", "-rf", `a"b`, "a'b", "$(reboot)", "a;b", "a\\b",
		"a\u202eb", "\ufeffa", strings.Repeat("n", 300), strings.Repeat("ü", 100), "a\xffb", "0aec1d6e-6d2f-4f0a-8a5b-1f6f0e3f9b8d", "a%2fb", "a,b", "{}",
	} {
		_, err := a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: name, Size: gib}, "")
		wantCode(t, err, api.CodeInvalid)
		if e := asError(err); e.NextStep == "" || len(e.Message) > 1500 {
			t.Errorf("%.40q: message of %d bytes, next step %q", name, len(e.Message), e.NextStep)
		} else if strings.ContainsAny(e.Message, "\x00\x1b\n\u202e\ufeff") {
			t.Errorf("%.40q is repeated as it is: %q", name, e.Message)
		}
		if name == "" || strings.Contains(name, "\x00") {
			continue // the command line cannot say it
		}
		if e := refusal(t, a, api.CodeInvalid, "volume", "create", "--size", "1GiB", "--name="+name); strings.Contains(e.Message, "\x1b") {
			t.Errorf("the terminal is sent what the name holds: %q", e.Message)
		}
		if _, _, err := a.Volume(deadline(t, 20*time.Second), name, client.Read{}); err == nil {
			t.Errorf("there is a volume %q", name)
		}
	}
	long := strings.Repeat("n", 128)
	v, err := a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: long, Size: gib}, "")
	if err != nil || v.Name != long {
		t.Fatalf("a name of 128 bytes: %v", err)
	}
	_, err = a.DeleteVolume(deadline(t, 20*time.Second), long)
	if err != nil {
		t.Error(err)
	}
	for _, text := range []string{"two\nlines", strings.Repeat("d", 257), "\x00"} {
		_, err := a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: "d", Description: text, Size: gib}, "")
		wantCode(t, err, api.CodeInvalid)
	}
	// What is allowed may still be more than the 512 bytes that a volume's metadata has, and must then be refused.
	v, err = a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: long, Description: strings.Repeat(`"`, 256), Size: gib}, "")
	if err == nil {
		_, err = a.DeleteVolume(deadline(t, 20*time.Second), v.ID)
	} else {
		wantCode(t, err, api.CodeInvalid)
		err = nil
	}
	if err != nil {
		t.Error(err)
	}
}

func asError(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	return &api.Error{}
}

func oddSizes(t *testing.T, a *testAgent) {
	const tib = int64(1) << 40
	for _, size := range []int64{0, -1, -gib, 1, 511, 513, gib + 1, 8*tib + 512, 9 * tib, 1 << 62, -1 << 63, 1<<63 - 1} {
		for _, format := range []string{api.FormatQCOW2, api.FormatRaw} {
			_, err := a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: "s", Size: size, Format: format}, "")
			wantCode(t, err, api.CodeInvalid)
			if asError(err).NextStep == "" {
				t.Errorf("size %d: no next step", size)
			}
		}
	}
	for _, size := range []string{"", "abc", "1XiB", "1.5", "1e30", "0x10", "-5GiB", "99999999999999999999GiB", "NaN", "1GiB1"} {
		if status, _, stderr := cli(t, "--address", socket(a), "volume", "create", "--name", "s", "--size="+size); status != exitUsage || !strings.Contains(stderr, "size") {
			t.Errorf("--size %q: status %d, %q", size, status, stderr)
		}
	}
	refusal(t, a, api.CodeInvalid, "volume", "create", "--name", "s", "--size", "0")
	refusal(t, a, api.CodeInvalid, "volume", "create", "--name", "s", "--size", "9TiB")
	refusal(t, a, api.CodeInvalid, "volume", "create", "--name", "s", "--size", "1000000")
	refusal(t, a, api.CodeNoSpace, "volume", "create", "--name", "s", "--size", "8TiB", "--format", "raw")
	refusal(t, a, api.CodeInvalid, "volume", "create", "--name", "s", "--size", "1GiB", "--initial-size", "2GiB")
	refusal(t, a, api.CodeNoSpace, "volume", "create", "--name", "s", "--size", "8TiB", "--initial-size", "7TiB")
	var v api.VolumeCreated
	mustJSON(t, a, &v, "volume", "create", "--name", "largest", "--size", "8TiB")
	mustJSON(t, a, &api.VolumeDeleted{}, "volume", "delete", "largest")
	mustJSON(t, a, &v, "volume", "create", "--name", "smallest", "--size", "512")
	mustJSON(t, a, &api.VolumeDeleted{}, "volume", "delete", "smallest")
}

// raw sends a body as it is over the agent's socket.
func rawRequest(t *testing.T, a *testAgent, method, path, kind string, header map[string]string, body string) (int, *api.Error) {
	t.Helper()
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", a.conf.UnixSocket)
		}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequest(method, "http://holdfast.sock"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	for k, v := range header {
		req.Header[k] = []string{v}
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	e := &api.Error{}
	if resp.StatusCode >= 300 {
		if err := json.Unmarshal(b, e); err != nil {
			t.Errorf("%s %s: %d with %q, which is no problem document", method, path, resp.StatusCode, b)
		}
	}
	return resp.StatusCode, e
}

func oddBodies(t *testing.T, a *testAgent) {
	const js = "application/json"
	for _, tt := range []struct {
		what, method, path, kind, body string
		status                         int
		code                           string
	}{
		{"nothing", "POST", "/v1/volumes", js, "", 400, api.CodeInvalid},
		{"no JSON", "POST", "/v1/volumes", js, "name=x", 400, api.CodeInvalid},
		{"half", "POST", "/v1/volumes", js, `{"name":"x"`, 400, api.CodeInvalid},
		{"two documents", "POST", "/v1/volumes", js, `{"name":"x","size":512}{"name":"y","size":512}`, 400, api.CodeInvalid},
		{"an array", "POST", "/v1/volumes", js, `[]`, 400, api.CodeInvalid},
		{"null", "POST", "/v1/volumes", js, `null`, 400, api.CodeInvalid},
		{"an unknown field", "POST", "/v1/volumes", js, `{"name":"x","size":512,"sise":1}`, 400, api.CodeInvalid},
		{"a size in quotes", "POST", "/v1/volumes", js, `{"name":"x","size":"10GiB"}`, 400, api.CodeInvalid},
		{"a fraction", "POST", "/v1/volumes", js, `{"name":"x","size":512.5}`, 400, api.CodeInvalid},
		{"a size beyond 64 bits", "POST", "/v1/volumes", js, `{"name":"x","size":1e30}`, 400, api.CodeInvalid},
		{"deep", "POST", "/v1/volumes", js, strings.Repeat(`{"name":`, 8000), 400, api.CodeInvalid},
		{"large", "POST", "/v1/volumes", js, `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, 413, api.CodeTooLarge},
		{"a form", "POST", "/v1/volumes", "application/x-www-form-urlencoded", "name=x", 415, api.CodeMediaType},
		{"a method", "PATCH", "/v1/volumes", js, "{}", 405, api.CodeMethod},
		{"a path", "GET", "/v2/volumes", js, "", 404, api.CodeNotFound},
		{"a path that climbs", "GET", "/v1/volumes/..%2f..%2fetc%2fpasswd", js, "", 404, api.CodeNotFound},
		{"a name with a zero byte", "GET", "/v1/volumes/%00", js, "", 404, api.CodeNotFound},
		{"bad escapes", "DELETE", "/v1/volumes/%ff%fe", js, "", 404, api.CodeNotFound},
		{"a wait that is none", "GET", "/v1/volumes?wait=forever", js, "", 400, api.CodeInvalid},
		{"a limit that is none", "GET", "/v1/events?limit=-1", js, "", 400, api.CodeInvalid},
		{"an unknown parameter", "GET", "/v1/volumes?nam=x", js, "", 400, api.CodeInvalid},
	} {
		status, e := rawRequest(t, a, tt.method, tt.path, tt.kind, nil, tt.body)
		if e.Code != tt.code && !(tt.status == 404 && e.Code == api.CodeInvalid) || status != e.HTTPStatus() {
			t.Errorf("%s: %d %s %q; want %d %s", tt.what, status, e.Code, e.Message, tt.status, tt.code)
		}
	}
}

func oddReferences(t *testing.T, a *testAgent) {
	refusal(t, a, api.CodeNotFound, "volume", "show", "nothing")
	refusal(t, a, api.CodeNotFound, "volume", "delete", "nothing")
	refusal(t, a, api.CodeNotFound, "volume", "delete", "0aec1d6e-6d2f-4f0a-8a5b-1f6f0e3f9b8d")
	refusal(t, a, api.CodeNotFound, "domain", "show", "nothing")
	refusal(t, a, api.CodeNotFound, "domain", "check", "nothing")
	refusal(t, a, api.CodeNotFound, "host", "show", "nothing")
	refusal(t, a, api.CodeConflict, "spm", "move", "--to", "nothing")
	refusal(t, a, api.CodeUnavailable, "operator", "raft", "transfer", "nothing")
	for flag, code := range map[string]string{
		"--domain=nothing": api.CodeNotFound, "--parent=0aec1d6e-6d2f-4f0a-8a5b-1f6f0e3f9b8d": api.CodeNotFound, "--parent=nothing": api.CodeInvalid,
		"--image=nothing": api.CodeInvalid, "--format=vhd": api.CodeInvalid, "--allocation=some": api.CodeInvalid,
	} {
		refusal(t, a, code, "volume", "create", "--name", "r", "--size", "1GiB", flag)
	}
}

func oddKeys(t *testing.T, a *testAgent) {
	for _, key := range []string{" ", "a b", "ü", strings.Repeat("k", 129)} {
		status, e := rawRequest(t, a, "POST", "/v1/volumes", "application/json", map[string]string{"Idempotency-Key": key}, `{"name":"-","size":512}`)
		if status != 400 || e.Code != api.CodeInvalid {
			t.Errorf("key %.20q: %d %s", key, status, e.Code)
		}
	}
	ctx := deadline(t, 30*time.Second)
	first := api.VolumeCreate{Name: "keyed", Size: gib, Format: api.FormatQCOW2}
	v, err := a.CreateVolume(ctx, first, "the-key")
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*api.VolumeCreate){
		"name":        func(r *api.VolumeCreate) { r.Name = "other" },
		"size":        func(r *api.VolumeCreate) { r.Size *= 2 },
		"format":      func(r *api.VolumeCreate) { r.Format = api.FormatRaw },
		"image":       func(r *api.VolumeCreate) { r.Image = "0aec1d6e-6d2f-4f0a-8a5b-1f6f0e3f9b8d" },
		"description": func(r *api.VolumeCreate) { r.Description = "other" },
	} {
		req := first
		change(&req)
		if _, err := a.CreateVolume(ctx, req, "the-key"); asError(err).Code != api.CodeConflict {
			t.Errorf("the same key with another %s: %v", what, err)
		}
	}
	if again, err := a.CreateVolume(ctx, first, "the-key"); err != nil || again.ID != v.ID {
		t.Errorf("the same again: %s, %v", again.ID, err)
	}
	if _, err := a.DeleteVolume(ctx, v.ID); err != nil {
		t.Error(err)
	}
}

// Of many who delete a volume at least one does; the others are told the same, or that it is going or gone.
func racingDeletes(t *testing.T, a *testAgent) {
	for round := range 5 {
		name := "race-" + strconv.Itoa(round)
		v, err := a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: name, Size: gib}, "")
		if err != nil {
			t.Fatal(err)
		}
		ok := atOnce(8, func(i int) bool {
			ref := v.ID
			if i%2 == 1 {
				ref = name
			}
			_, err := a.DeleteVolume(deadline(t, 20*time.Second), ref)
			if c := asError(err).Code; err != nil && c != api.CodeNotFound && c != api.CodeBusy {
				t.Errorf("deleting what is being deleted: %v", err)
			}
			return err == nil
		})
		if ok < 1 { // those who come while one is under way may share its answer
			t.Errorf("%d of 8 deletes of one volume were done", ok)
		}
		_, err = a.DeleteVolume(deadline(t, 20*time.Second), v.ID)
		wantCode(t, err, api.CodeNotFound)
	}
}

func racingCreates(t *testing.T, a *testAgent) {
	ok := atOnce(8, func(i int) bool {
		_, err := a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: "one-name", Size: gib}, "")
		if err != nil {
			wantCode(t, err, api.CodeNameTaken)
		}
		return err == nil
	})
	if ok != 1 {
		t.Errorf("%d of 8 volumes of one name were made", ok)
	}
	ok = atOnce(8, func(i int) bool {
		v, err := a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: "one-key", Size: gib}, "one-key")
		if err != nil {
			t.Errorf("the same request at once: %v", err)
		}
		return err == nil && v.Name == "one-key"
	})
	if ok != 8 {
		t.Errorf("%d of 8 equal requests were answered", ok)
	}
	for _, name := range []string{"one-name", "one-key"} {
		if _, err := a.DeleteVolume(deadline(t, 20*time.Second), name); err != nil {
			t.Errorf("deleting %s: %v", name, err)
		}
	}
}

// atOnce counts for how many of n callers f is true.
func atOnce(n int, f func(i int) bool) int {
	var wg sync.WaitGroup
	results := make([]bool, n)
	for i := range n {
		wg.Go(func() { results[i] = f(i) })
	}
	wg.Wait()
	done := 0
	for _, ok := range results {
		if ok {
			done++
		}
	}
	return done
}

// A domain that is full says so, loses nothing, and takes volumes again when there is room.
func TestBadInput_fullDomain(t *testing.T) {
	p := newAgentPool(t, 1, newLUN(t, 12*gib), nil)
	a := p.agents[0]
	mustJSON(t, a, &api.Domain{}, "domain", "set", "master", "--critical-free", "0") // or the last gigabytes were kept for volumes that grow
	made := 0
	for ; made < 50; made++ {
		_, err := a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: fmt.Sprint("v", made), Size: gib, Format: api.FormatRaw}, "")
		if err == nil {
			continue
		}
		wantCode(t, err, api.CodeNoSpace)
		if asError(err).NextStep == "" {
			t.Errorf("no next step: %v", err)
		}
		break
	}
	if made < 3 || made > 11 {
		t.Errorf("%d volumes of 1 GiB fit into 12 GiB", made)
	}
	refusal(t, a, api.CodeNoSpace, "volume", "create", "--name", "more", "--size", "1GiB", "--format", "raw")
	// Everybody who comes at once is told so too, and none takes another's place down with it.
	atOnce(8, func(i int) bool {
		_, err := a.CreateVolume(deadline(t, 20*time.Second), api.VolumeCreate{Name: fmt.Sprint("late", i), Size: gib, Format: api.FormatRaw}, "")
		wantCode(t, err, api.CodeNoSpace)
		return false
	})
	mustList(t, a.Client, made)
	var d api.Domain
	mustJSON(t, a, &d, "domain", "show", "master")
	mustJSON(t, a, &api.VolumeDeleted{}, "volume", "delete", "v0")
	mustJSON(t, a, &api.VolumeCreated{}, "volume", "create", "--name", "again", "--size", "1GiB", "--format", "raw")
	mustList(t, a.Client, made)
	var check api.Check
	mustJSON(t, a, &check, "domain", "check", "master")
	judgeVG(t, p.lun, d.ID)
}

// judgeVG lets lvm check what is on a LUN.
func judgeVG(t *testing.T, lun, vg string) {
	t.Helper()
	ctx := deadline(t, 30*time.Second)
	j := &judges{lun: lun, vg: vg}
	if err := j.attach(ctx); err != nil {
		t.Skip(err)
	}
	defer j.detach()
	if out, err := j.lvm(ctx, "vgck", vg); err != nil {
		t.Errorf("vgck: %v %s", err, out)
	}
}

// A configuration that cannot be right stops the agent before it does anything, and all that is wrong is named.
func TestBadInput_configuration(t *testing.T) {
	good, err := config.Print(agentConfig(t, "h1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, from, to, want string }{
		{"unknown key", "\nprofile:", "\nprofil: dev\nprofile:", "profil"},
		{"key twice", "\nprofile:", "\nprofile: fast\nprofile:", "profile"},
		{"wrong type", "\ndev: true", "\ndev: perhaps", "perhaps"},
		{"a list for a word", "\nprofile: dev", "\nprofile: [dev]", "line 14"},
		{"unknown profile", "\nprofile: dev", "\nprofile: faster", "compatible, fast, dev"},
		{"a number without a unit", "heartbeat: 300ms", "heartbeat: fast", fmt.Sprintf("line %d", 1+bytes.Count(good[:bytes.Index(good, []byte("heartbeat: 300ms"))], []byte("\n")))},
		{"tabs", "\nprofile: dev", "\n\tprofile: dev", "line"},
		{"no YAML", "\nprofile: dev", "\n{{{", "line"},
		{"odd host name", "\nname: h1", "\nname: 'h 1'", "name:"},
		{"zero byte", "\nname: h1", "\nname: \"h\\01\"", "name:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !bytes.Contains(good, []byte(tt.from)) {
				t.Fatalf("the printed file has no %q", tt.from)
			}
			file := filepath.Join(shortDir(t), "agent.yaml")
			if err := os.WriteFile(file, bytes.Replace(good, []byte(tt.from), []byte(tt.to), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			status, stdout, stderr := cli(t, "agent", "--config", file)
			if status != exitUsage || stdout != "" || !strings.Contains(stderr, tt.want) || !strings.Contains(stderr, file) {
				t.Errorf("status %d, stdout %q, stderr %q; want status 2, the file and %q", status, stdout, stderr, tt.want)
			}
		})
	}
	for name, args := range map[string][]string{"no file": {"agent"}, "a file that is not there": {"agent", "--config", "/nonexistent.yaml"}, "a directory": {"agent", "--config", "/"}} {
		if status, _, stderr := cli(t, args...); status != exitUsage || stderr == "" {
			t.Errorf("%s: status %d, %q", name, status, stderr)
		}
	}
}
