package main

import (
	"testing"

	"github.com/holdfast-io/holdfast/internal/vmtest"
)

// The judges must be able to say no.
func TestJudges(t *testing.T) {
	t.Parallel()
	const pass, good, gone = "--- PASS: TestGuest_x", "watchdog: the lease is good for another second\n", "watchdog: the lease has expired\n"
	for name, c := range map[string]struct {
		judge func(vmtest.Result) error
		r     vmtest.Result
		ok    bool
	}{
		"passed":          {passed, vmtest.Result{Status: 0, Console: pass}, true},
		"failed":          {passed, vmtest.Result{Status: 1, Console: pass}, false},
		"no test":         {passed, vmtest.Result{Status: 0, Console: "no tests to run"}, false},
		"died":            {passed, vmtest.Result{Status: -1, Console: pass}, false},
		"reset":           {wasReset, vmtest.Result{Status: -1, Console: good + gone}, true},
		"reset too early": {wasReset, vmtest.Result{Status: -1, Console: good}, false},
		"never ran":       {wasReset, vmtest.Result{Status: -1}, false},
		"not reset":       {wasReset, vmtest.Result{Status: 1, Console: good + gone + "watchdog: not reset in time"}, false},
	} {
		if err := c.judge(c.r); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
