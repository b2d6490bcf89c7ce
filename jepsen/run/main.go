// Command run makes a pool of real hosts, lets clients work on it while faults come and go, and judges what was written down.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/nemesis"
	"github.com/holdfast-io/holdfast/jepsen/report"
)

// options are what the command line says.
type options struct {
	length  time.Duration
	seed    uint64
	hosts   int
	profile string
	binary  string
	out     string
	faults  string
	plant   string
	fencing bool
	nodogs  bool
	catch   bool
	alone   bool
	rate    float64
	guests  int
	list    bool
	plain   bool
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("jepsen", flag.ContinueOnError)
	f.DurationVar(&o.length, "time", 10*time.Minute, "how long faults are injected")
	f.Uint64Var(&o.seed, "seed", 0, "decides which faults come, when, on whom; 0: another one each time")
	f.IntVar(&o.hosts, "hosts", 3, "how many hosts, 2 at least")
	f.StringVar(&o.profile, "profile", "dev", "the pool's timing: dev, fast, compatible")
	f.StringVar(&o.binary, "binary", "bin/holdfast-jepsen", "the program; clocks and planted mistakes take one built with -tags jepsen")
	f.StringVar(&o.out, "out", "jepsen-runs", "folder of the runs")
	f.StringVar(&o.faults, "faults", "", "kinds of faults, separated by commas; \"net.\" is all that begin so; empty: all that this machine can do")
	f.StringVar(&o.plant, "plant", "", "a mistake for the program to make, which the checkers must find")
	f.BoolVar(&o.fencing, "fencing", false, "give the hosts power switches, and the pool the power devices for them: hosts switch each other off, and switches fail")
	f.BoolVar(&o.nodogs, "unprotected", false, "no watchdogs: what a host does after its lease is dead is up to its guards alone")
	f.BoolVar(&o.alone, "alone", false, "one fault at a time, each when nothing of the last can be left: what each of them costs")
	f.BoolVar(&o.catch, "catch", false, "plant each mistake in turn, for --time each, and see that a checker finds it")
	f.Float64Var(&o.rate, "rate", 40, "operations in a second, of all clients together")
	f.IntVar(&o.guests, "guests", 4, "how many guests write to volumes that grow")
	f.BoolVar(&o.list, "list", false, "list the kinds of faults and end")
	f.BoolVar(&o.plain, "plain", false, "kill and stop processes only, as without root")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	o.plain = o.plain || os.Geteuid() != 0
	return o, nil
}

// Exit statuses.
const (
	exitViolation = 1
	exitBroken    = 2
)

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "jepsen:", err)
		os.Exit(exitBroken)
	}
	if o.list {
		if err := nemesis.List(os.Stdout, abilities(o.plain, o.fencing)...); err != nil {
			os.Exit(exitBroken)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	run := status
	if o.catch {
		run = catchAll
	}
	code := run(ctx, o)
	stop()
	os.Exit(code)
}

// status is a run from beginning to end, and the exit status for it.
func status(ctx context.Context, o options) int {
	r, err := execute(ctx, o)
	if err != nil {
		fmt.Fprintf(os.Stderr, "jepsen: the run is worth nothing: %v\n", err)
		return exitBroken
	}
	return r.say()
}

// execute is a run, with its report.
func execute(ctx context.Context, o options) (*runner, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	if o.plain {
		fmt.Println("Without root there are no network namespaces and no disks of their own: processes are killed and stopped, no more.")
	}
	folder := filepath.Join(o.out, fmt.Sprintf("%s-seed%d", time.Now().Format("20060102-150405"), o.seed))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the run: %w", err)
	}
	fmt.Printf("seed %d, %d hosts, profile %s, %v of faults; the record is in %s\n", o.seed, o.hosts, o.profile, o.length, folder)
	r := &runner{options: o, folder: folder, log: log}
	err := r.do(ctx)
	if rerr := errors.Join(report.Write(folder), report.Index(o.out)); rerr != nil {
		err = errors.Join(err, fmt.Errorf("writing the report: %w", rerr))
	}
	return r, err
}

// say prints the verdicts.
func (r *runner) say() int {
	bad := 0
	for _, v := range r.run.Verdicts {
		word := "ok  "
		if !v.OK {
			word, bad = "FAIL", bad+1
		}
		fmt.Printf("%s  %-18s %s\n", word, v.Checker, v.Summary)
		if !v.OK {
			fmt.Printf("      %s\n", strings.Join(v.Faults, "\n      "))
		}
	}
	fmt.Printf("report: %s\n", filepath.Join(r.folder, "report.html"))
	if bad > 0 {
		fmt.Printf("%d of %d checkers found something; the same faults again: --seed %d --hosts %d --time %v\n", bad, len(r.run.Verdicts), r.seed, r.hosts, r.length)
		return exitViolation
	}
	return 0
}
