package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPrint_defaultFile(t *testing.T) {
	t.Parallel()
	got, err := Print(Default())
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "default.yaml")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the printed file changed; run with -update\n%s", got)
	}
}

func TestPrint_readsBack(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Name, c.Devices, c.Grace = "h1", []string{"/dev/mapper/lun*", "nbd://a:1/x"}, 3*time.Second
	c.HTTP.CertFile, c.HTTP.KeyFile = "/c: #.pem", "/k.pem"
	b, err := Print(c)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if !reflect.DeepEqual(c, back) {
		t.Errorf("got %+v, want %+v", back, c)
	}
}

func TestAgent_everyKeyDocumented(t *testing.T) {
	t.Parallel()
	documented(t, reflect.TypeFor[Agent](), "")
}

func documented(t *testing.T, typ reflect.Type, path string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		key := path + f.Tag.Get("yaml")
		doc := f.Tag.Get("doc")
		if doc == "" || f.Tag.Get("yaml") == "" {
			t.Errorf("%s (%s) has no documentation or no key", key, f.Name)
		}
		if f.Type == reflect.TypeFor[time.Duration]() && !strings.Contains(doc, "duration") {
			t.Errorf("%s does not name its unit", key)
		}
		if f.Type.Kind() == reflect.Struct {
			documented(t, f.Type, key+".")
		}
	}
}

func TestParse_refuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"unknown key":          {"host: h1", "host"},
		"unknown nested key":   {"raft: {hartbeat: 1s}", "hartbeat"},
		"two documents":        {"name: a\n---\nname: b", "more than one"},
		"wrong type":           {"dev: maybe", "cannot unmarshal"},
		"odd name":             {"name: 'a b'", "name:"},
		"long name":            {"name: " + strings.Repeat("x", 64), "name:"},
		"relative directory":   {"data_dir: x", "data_dir:"},
		"profile":              {"profile: faster", "profile:"},
		"long socket":          {"unix_socket: /" + strings.Repeat("x", 200), "unix_socket:"},
		"no port":              {"cluster: {listen: 10.0.0.1}", "cluster.listen:"},
		"port 0":               {"gossip: {listen: '127.0.0.1:0'}", "gossip.listen:"},
		"same port":            {"gossip: {listen: '0.0.0.0:7420'}", "an address each"},
		"dev on all addresses": {"dev: true", "loopback only"},
		"half a certificate":   {"http: {cert_file: /x}", "belong together"},
		"relative device":      {"devices: [sdb]", "devices[0]:"},
		"bad pattern":          {"devices: ['/dev/[']", "devices[0]:"},
		"fence agent":          {"fencing: {agent: ipmi}", "fencing.agent:"},
		"fence socket":         {"fencing: {agent: process}", "fencing.socket:"},
		"watchdog":             {"watchdog: softdog", "watchdog:"},
		"watchdog path":        {"watchdog: 'device:dev'", "watchdog:"},
		"watchdog auto path":   {"watchdog: 'auto:/dev/x'", "watchdog:"},
		"takeover":             {"unprotected_takeover: never", "unprotected_takeover:"},
		"negative grace":       {"grace: -1s", "grace:"},
		"no chunk":             {"growth: {chunk: 0}", "growth.chunk:"},
		"full utilization":     {"growth: {utilization: 100}", "growth.utilization:"},
		"short election":       {"raft: {election: 10ms}", "raft.election:"},
		"long lease":           {"raft: {leader_lease: 1s}", "raft.leader_lease:"},
		"log level":            {"log: {level: loud}", "log.level:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := tc.in
			if !strings.Contains(in, "name:") {
				in += "\nname: h1"
			}
			_, err := Parse([]byte(in))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestParse_allProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("name: '-'\ndata_dir: x\nprofile: y\nlog: {level: z}"))
	for _, key := range []string{"name:", "data_dir:", "profile:", "log.level:"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("no word of %s in %v", key, err)
		}
	}
}

func TestLoad_missingFileSaysWhatToDo(t *testing.T) {
	t.Parallel()
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if err == nil || !strings.Contains(err.Error(), "--print-config") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("name: h1\n"))
	f.Add([]byte("raft: {heartbeat: 1s}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		out, err := Print(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(out); err != nil {
			t.Fatalf("what was printed is refused: %v\n%s", err, out)
		}
	})
}
