package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

var began = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// logged makes the folder of a run whose host a has logged lines, with or without a record of exits.
func logged(t *testing.T, lines string, exits string, faults ...history.Fault) Record {
	t.Helper()
	dir := t.TempDir()
	r := Record{Folder: dir, Faults: faults, Run: history.Run{Began: began, Hosts: []string{"a"}, Bounds: history.Bounds{IOTimeout: time.Second, Watchdog: 2 * time.Second}}}
	for name, text := range map[string]string{"a.log": lines, ExitsFile: exits} {
		if text == "-" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func stamp(d time.Duration) string { return began.Add(d).Format("2006-01-02T15:04:05.000Z") }

func TestLogs(t *testing.T) {
	t.Parallel()
	const s = time.Second
	info := "time=" + stamp(s) + ` level=INFO msg="cluster node is up" host=a` + "\n"
	bad := func(d time.Duration, msg string) string {
		return info + fmt.Sprintf("time=%s level=ERROR msg=%q host=a\n", stamp(d), msg)
	}
	kill := func(reason string, told bool) string {
		return fmt.Sprintf(`{"host":"a","pid":7,"at":%q,"reason":%q,"told":%v}`+"\n", stamp(60*s), reason, told)
	}
	path := history.Fault{Kind: "path.cut", Targets: []string{"a"}, Begin: 50 * s, End: 70 * s}
	tests := []struct {
		name         string
		lines, exits string
		faults       []history.Fault
		want         string
	}{
		{"a healthy run", info, "", nil, ""},
		{"an error that nobody knows", bad(s, "the moon is gone"), "", []history.Fault{path}, "1 times: a: level=ERROR msg=\"the moon is gone\""},
		{"an error in JSON", info + `{"time":"x","level":"ERROR","msg":"the moon is gone"}`, "", nil, "the moon is gone"},
		{"a lost lease after its fault", bad(60*s, "lockspace lost, all its leases are void"), "", []history.Fault{path}, ""},
		{"a lost lease before any fault", bad(10*s, "lockspace lost, all its leases are void"), "", []history.Fault{path}, "lockspace lost"},
		{"a lost lease in a run without faults of its kind", bad(60*s, "lockspace lost, all its leases are void"), "",
			[]history.Fault{{Kind: "net.one", Begin: s, End: 2 * s}}, "lockspace lost"},
		{"a panic", info + "panic: runtime error: index out of range [5]\n\ngoroutine 1 [running]:\n", "", nil, "a.log:2: panic: runtime error"},
		{"a race", info + "WARNING: DATA RACE\n", "", nil, "DATA RACE"},
		{"a log that is missing", "-", "", nil, "a.log"},
		{"a log without a line", "", "", nil, "a has logged nothing"},
		{"no record of exits", info, "-", nil, ExitsFile},
		{"an agent that was told to end", info, kill("signal: killed", true), nil, ""},
		{"an agent that ended by itself", info, kill("exit status 1", false), []history.Fault{path}, "a (pid 7) ended at 60.000s"},
		{"an agent killed for its lost lease", info, kill("signal: killed", false), []history.Fault{path}, ""},
		{"an agent that refused damaged files", info, kill("exit status 1", false), []history.Fault{{Kind: "data.flip", Targets: []string{"a"}, Begin: 50 * s, End: 58 * s}}, ""},
		{"an agent that ended while others' files were damaged", info, kill("exit status 1", false),
			[]history.Fault{{Kind: "data.flip", Targets: []string{"b"}, Begin: 50 * s, End: 70 * s}}, "a (pid 7) ended at 60.000s"},
		{"an agent killed without a cause", info, kill("signal: killed", false), nil, "signal: killed"},
		{"a panic that the pool saw", info, strings.Replace(kill("exit status 2", true), "}", `,"panic":"panic: boom"}`, 1), nil, "panicked at 60.000s: panic: boom"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect(t, Logs(logged(t, tt.lines, tt.exits, tt.faults...)), tt.want)
		})
	}
}

// A list that allows lines without saying why, or two of which are the same, is no list.
func TestAllow(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, a := range allow {
		if a.why == "" || seen[a.line.String()] {
			t.Errorf("%s has no reason of its own", a.line)
		}
		seen[a.line.String()] = true
	}
}

func TestGoroutines(t *testing.T) {
	t.Parallel()
	for want, counts := range map[string]map[string]GoroutineCount{
		"":                     {"a": {Before: 100, After: 110}},
		"all hosts together":   {"a": {Before: 50, After: 100}, "b": {Before: 100, After: 50}},
		"a has 200 goroutines": {"a": {Before: 100, After: 200}},
		"are no counts":        {},
		"nobody counted them":  nil,
	} {
		r := logged(t, "", "")
		if counts != nil {
			if err := writeJSON(r.Folder, GoroutinesFile, counts); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, Goroutines(r), want)
	}
}
