package soft

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(code string) Command {
	c := Default()
	c.Argv = []string{"/bin/sh", "-c", code}
	return c
}

func TestCommand_Run(t *testing.T) {
	t.Parallel()
	target := Target{Host: "h1", Address: "10.0.0.1", ID: 7}
	tests := []struct {
		name string
		cmd  Command
		out  string
		code int
		err  error
	}{
		{"works", shell(`echo "$HOLDFAST_HOST $HOLDFAST_HOST_ADDRESS $HOLDFAST_HOST_ID"`), "h1 10.0.0.1 7", 0, nil},
		{"fails", shell("echo no route >&2; exit 255"), "no route", 255, fencing.ErrRefused},
		{"hangs", Command{[]string{"/bin/sh", "-c", "sleep 1000"}, time.Second}, "", -1, fencing.ErrTimeout},
		{"missing", Command{[]string{"/nonexistent/x"}, time.Second}, "", 0, fencing.ErrNoProgram},
		{"relative", Command{[]string{"reboot"}, time.Second}, "", 0, fencing.ErrConfig},
		{"nothing", Default(), "", 0, fencing.ErrConfig},
		{"no time", Command{[]string{"/bin/true"}, 0}, "", 0, fencing.ErrConfig},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := tt.cmd.Run(testutil.Deadline(t), target)
			if !errors.Is(err, tt.err) || out.Code != tt.code || !strings.Contains(out.Output, tt.out) {
				t.Fatalf("%+v, %v", out, err)
			}
		})
	}
}

func TestCommand_Run_canceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := shell("sleep 1000").Run(ctx, Target{}); !errors.Is(err, context.Canceled) || errors.Is(err, fencing.ErrTimeout) {
		t.Fatal(err)
	}
}
