package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/leases/direct"
)

// sanlockVersion is the release whose `direct` command this one follows.
const sanlockVersion = "3.8.5"

// calledSanlock says whether the program was started under sanlock's name.
func calledSanlock(argv0 string) bool { return filepath.Base(argv0) == "sanlock" }

func newSanlockCommand() *cobra.Command {
	return &cobra.Command{
		Use: "sanlock direct ACTION [OPTIONS]", Short: "Make, show and change lease records as `sanlock direct` does",
		Long: `Make, show and change lease records on a device as 'sanlock direct' of sanlock ` + sanlockVersion + ` does: the same arguments, output and exit
status, so that scripts need not know which of the two they call. The same happens when the program is called sanlock.
It needs no configuration, no agent and no daemon, and coordinates with none: a lease that a host is using can be damaged.

` + sanlockUsage,
		Example:            "  holdfast sanlock direct read_leader -r LS:res:/dev/mapper/leases:1M\n  ln -s $(which holdfast) /usr/local/sbin/sanlock",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if runSanlock(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr()) != exitOK {
				return errQuiet
			}
			return nil
		},
	}
}

const sanlockUsage = `Usage:
  sanlock direct init        -s LOCKSPACE | -r RESOURCE [-z 0|1] [-n HOSTS] [-o SEC] [-Z 512|4096 -A 1M|2M|4M|8M]
  sanlock direct read_leader -s LOCKSPACE | -r RESOURCE
  sanlock direct dump        PATH[:OFFSET[:SIZE]] [-f 0|1|2] [-Z 512|4096 -A 1M|2M|4M|8M]
  sanlock direct acquire_id  -s LOCKSPACE [-e HOSTNAME] [-o SEC]
  sanlock direct renew_id    -s LOCKSPACE [-o SEC]
  sanlock direct release_id  -s LOCKSPACE [-o SEC]
  sanlock direct acquire     -r RESOURCE -i HOST_ID -g GENERATION [-o SEC]
  sanlock direct release     -r RESOURCE -i HOST_ID -g GENERATION [-o SEC]
  sanlock direct format      -x RINDEX [-Z 512|4096 -A 1M|2M|4M|8M]
  sanlock direct lookup      -x RINDEX [-e NAME[:OFFSET]]
  sanlock direct update      -x RINDEX -e NAME:OFFSET [-z 0|1]
  sanlock direct rebuild     -x RINDEX
  sanlock help | version

  LOCKSPACE = NAME:HOST_ID:PATH:OFFSET
  RESOURCE  = LOCKSPACE_NAME:NAME:PATH:OFFSET[:VERSION]
  RINDEX    = LOCKSPACE_NAME:PATH:OFFSET

Offsets and sizes are bytes, or MiB with an M. A colon in a path is written \:.
`

// runSanlock is a command line of sanlock, without the program's name. The status is 0 or 1, as with the real one.
func runSanlock(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stdout, sanlockUsage)
		return exitOK
	}
	switch args[0] {
	case "direct":
		return runSanlockDirect(ctx, args[1:], stdout, stderr)
	case "help", "--help", "-h":
		fmt.Fprint(stdout, sanlockUsage)
		return exitOK
	case "version":
		fmt.Fprintln(stdout, sanlockVersion)
		return exitOK
	case "--version", "-V":
		fmt.Fprintf(stdout, "sanlock %s (direct commands, by holdfast %s)\n", sanlockVersion, version)
		return exitOK
	}
	fmt.Fprintf(stderr, "sanlock: %q is not here: this is holdfast, which has sanlock's direct commands only. "+
		"Leases of a running pool are handled by `holdfast lease`.\n", args[0])
	return exitFailed
}

func runSanlockDirect(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stdout, sanlockUsage)
		return exitFailed
	}
	run, ok := sanlockActions[args[0]]
	if !ok {
		fmt.Fprintf(stdout, "direct action \"%s\" is unknown\n", args[0])
		return exitFailed
	}
	o, ok := parseSanlock(args[0], args[1:], stdout)
	if !ok {
		return exitFailed
	}
	level := slog.LevelError + 1 // sanlock's direct commands log nothing unless told to
	if o.debug {
		level = slog.LevelDebug
	}
	s := &sanlockRun{o: o, out: stdout}
	s.tool = direct.Default(slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))
	s.tool.IOTimeout = o.ioTimeout
	return run(s, ctx)
}

// sanlockRun is one direct command.
type sanlockRun struct {
	o    *sanlockOptions
	tool direct.Tool
	out  io.Writer
}

// sanlockActions are the direct commands; each returns the exit status.
var sanlockActions = map[string]func(*sanlockRun, context.Context) int{
	"init":        (*sanlockRun).init,
	"dump":        (*sanlockRun).dump,
	"read_leader": (*sanlockRun).readLeader,
	"acquire_id":  (*sanlockRun).acquireID,
	"renew_id":    (*sanlockRun).renewID,
	"release_id":  (*sanlockRun).releaseID,
	"acquire":     (*sanlockRun).acquire,
	"release":     (*sanlockRun).release,
	"format":      (*sanlockRun).format,
	"lookup":      (*sanlockRun).lookup,
	"update":      (*sanlockRun).update,
	"rebuild":     (*sanlockRun).rebuild,
}

// done prints the result line of an action and gives the exit status.
func (s *sanlockRun) done(action string, err error) int {
	if err != nil {
		s.tool.Log.Debug(action+" failed", "error", err)
	}
	return s.doneCode(action, direct.Code(err))
}

func (s *sanlockRun) doneCode(action string, code int) int {
	fmt.Fprintf(s.out, "%s done %d\n", action, code)
	if code < 0 {
		return exitFailed
	}
	return exitOK
}
