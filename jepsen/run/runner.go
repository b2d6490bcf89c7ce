package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/internal/config"
	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/lun"
	"github.com/holdfast-io/holdfast/jepsen/nemesis"
	"github.com/holdfast-io/holdfast/jepsen/pool"
	"github.com/holdfast-io/holdfast/jepsen/workload"
)

// runner is one run.
type runner struct {
	options
	folder string
	log    *slog.Logger

	dir     string // sockets, disks and the LUN; gone after the run
	began   time.Time
	run     history.Run
	lun     *lun.LUN
	pool    *pool.Pool
	entries *history.Log[history.Entry]
	ops     *history.Log[history.Op]
	faults  *history.Log[history.Fault]
	samples *history.Log[history.Sample]
	power   *history.Log[history.Power]
	events  *history.Log[check.Seen]
	// lastEvent is the id of the last event that was written down; follow has it, and last after that.
	lastEvent string
	before    map[string]int // goroutines before the first fault
	after     map[string]int
	result    nemesis.Result
	sick      error         // the pool did not recover
	healed    time.Duration // how long it took until all was well
}

// lunSize is that of the LUN, which is sparse.
const lunSize = 64 << 30

// formTime bounds the making of a pool, healTime how long it may take until all is well after the last fault.
const (
	formTime = 2 * time.Minute
	healTime = 3 * time.Minute
)

// warmTime is how long clients work before the first fault. Goroutines are counted meanwhile, warmCounts times: by the end everybody has
// connections to everybody, and the highest count is the one that a count at the end is held against.
const (
	warmTime   = 8 * time.Second
	warmCounts = 8
)

// times are the pool's.
var times = map[string]history.Bounds{
	"dev":        {IOTimeout: time.Second, Watchdog: 2 * time.Second},
	"fast":       {IOTimeout: 2 * time.Second, Watchdog: 10 * time.Second},
	"compatible": {IOTimeout: 10 * time.Second, Watchdog: time.Minute},
}

// fenceLive is when a pool of profile dev fences a host that does not answer but lives. In the others that takes longer than any fault.
const fenceLive = 12 * time.Second

func (r *runner) now() time.Duration { return time.Since(r.began) }

// do makes the pool, breaks it, heals it, and judges. An error means that nothing can be said.
func (r *runner) do(ctx context.Context) (err error) {
	bounds, ok := times[r.profile]
	if !ok {
		return fmt.Errorf("there is no profile %q", r.profile)
	}
	if r.fencing && r.profile == "dev" {
		bounds.Fence = fenceLive
	}
	r.began = time.Now()
	r.run = history.Run{Seed: r.seed, Version: r.version(), Began: r.began, Profile: r.profile, Planted: r.plant, Fencing: r.fencing, Bounds: bounds}
	defer func() { err = errors.Join(err, history.SaveRun(r.folder, r.run)) }()
	if err := r.open(); err != nil {
		return errors.Join(err, r.close())
	}
	err = r.live(ctx)
	if err = errors.Join(err, r.close()); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	r.run.Verdicts = []history.Verdict{r.recovery()}
	if r.sick != nil {
		return nil
	}
	return r.judge(context.WithoutCancel(ctx))
}

// recovery judges whether the pool was well again after the last fault.
func (r *runner) recovery() history.Verdict {
	if r.sick != nil {
		return history.Verdict{Checker: "recovery", Summary: "the pool is not well again", Faults: []string{r.sick.Error()}}
	}
	return history.Verdict{Checker: "recovery", OK: true, Summary: fmt.Sprintf("all is well %.1f s after the last fault was healed", r.healed.Seconds())}
}

// version is what the program says of itself.
func (r *runner) version() string {
	out, err := exec.Command(r.binary, "version").Output() //nolint:noctx // it prints a line and ends
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0])
}

// open makes the files of the record, the LUN, and the hosts.
func (r *runner) open() (err error) {
	if _, err := pool.SweepDead(); err != nil {
		r.log.Warn("something of an earlier run that was killed is still there", "error", err)
	}
	if r.dir, err = os.MkdirTemp("", "hfj"); err != nil {
		return err
	}
	errs := make([]error, 6)
	r.entries, errs[0] = history.NewLog[history.Entry](r.folder, history.WritesFile)
	r.ops, errs[1] = history.NewLog[history.Op](r.folder, history.OpsFile)
	r.faults, errs[2] = history.NewLog[history.Fault](r.folder, history.FaultsFile)
	r.samples, errs[3] = history.NewLog[history.Sample](r.folder, history.SamplesFile)
	r.power, errs[4] = history.NewLog[history.Power](r.folder, history.PowerFile)
	r.events, errs[5] = history.NewLog[check.Seen](r.folder, check.EventsFile)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if r.lun, err = lun.New(r.lunFile(), lunSize, r.entries, r.now); err != nil {
		return err
	}
	r.lun.Seed(r.seed)
	binary, err := filepath.Abs(r.binary)
	if err != nil {
		return err
	}
	logs, err := filepath.Abs(r.folder)
	if err != nil {
		return err
	}
	var env []string
	if r.plant != "" {
		env = append(env, "HOLDFAST_PLANT="+r.plant)
	}
	r.pool, err = pool.Open(pool.Config{Dir: r.dir, Logs: logs, Binary: binary, Hosts: r.hosts, Profile: r.profile, Serve: r.serve,
		Cut: r.cutPath, Mend: r.mendPath, Env: env, Plain: r.plain, Configure: growth, Watchdog: !r.plain && !r.nodogs, Fencing: r.fencing,
		Now: r.now, Power: r.power.Add, Log: r.log})
	return err
}

func (r *runner) lunFile() string { return filepath.Join(r.dir, "lun.img") }

// serve makes the LUN's server listen for a host.
func (r *runner) serve(host, ns, addr string) error {
	ln, err := listen(ns, addr)
	if err != nil {
		return err
	}
	r.lun.Attach(host, ln)
	return nil
}

// cutPath is what happens to the I/O of a host without power: what was not flushed is lost, and nothing more lands.
func (r *runner) cutPath(host string) error {
	r.lun.Path(host).Drop()
	return nil
}

func (r *runner) mendPath(host string) error {
	r.lun.Path(host).Join()
	return nil
}

// live forms the pool and lets it live through the faults, until all is well again.
func (r *runner) live(ctx context.Context) error {
	form, cancel := context.WithTimeout(ctx, formTime)
	defer cancel()
	if err := r.pool.Form(form); err != nil {
		return fmt.Errorf("making the pool: %w", err)
	}
	r.run.Hosts = r.pool.Hosts()
	st, _, err := r.pool.Client(r.run.Hosts[0]).Status(form, client.Read{})
	if err != nil || len(st.Domains) == 0 {
		return errors.Join(errors.New("the pool has no domain"), err)
	}
	r.run.Domain = st.Domains[0].ID
	r.log.Info("the pool is up", "after", r.now().Round(time.Millisecond))
	all, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.sample(all) })
	wg.Go(func() { r.follow(all) })
	var werr error
	wg.Go(func() { werr = r.work(all) })
	r.before = r.warm(ctx, form)
	err = r.torment(ctx)
	if err == nil {
		begun := r.now()
		r.sick = r.well(ctx)
		r.healed, err = r.now()-begun, ctx.Err()
	}
	stop()
	wg.Wait()
	r.run.Lasted = r.now()
	if err := errors.Join(err, werr); err != nil || r.sick != nil {
		return err
	}
	return r.last(ctx)
}

// growChunk is by how much attached volumes grow: one extent, so that guests need the SPM every few seconds.
const growChunk = 128 << 20

// growth configures how attached volumes grow on a host.
func growth(_ string, c *config.Agent) { c.Growth.Chunk = growChunk }

// work lets the clients work.
func (r *runner) work(ctx context.Context) error {
	var hosts []workload.Host
	for _, h := range r.run.Hosts {
		hosts = append(hosts, workload.Host{Name: h, Client: client.Config{Address: r.address(h)}})
	}
	return workload.Run(ctx, workload.Config{Hosts: hosts, Domain: r.run.Domain, Began: r.began, Seed: r.seed, Rate: r.rate,
		Guests: r.guests, Describe: workload.ByUpdate}, r.ops)
}

// torment injects the faults that the seed has chosen.
func (r *runner) torment(ctx context.Context) error {
	kinds := nemesis.Available(abilities(r.plain, r.fencing)...)
	var err error
	if r.options.faults != "" {
		if kinds, err = nemesis.Select(kinds, strings.Split(r.options.faults, ",")); err != nil {
			return err
		}
	}
	for _, k := range kinds {
		r.run.Nemeses = append(r.run.Nemeses, k.Name)
	}
	mix := nemesis.Combined
	if r.options.alone {
		mix = nemesis.Alone
	}
	plan, err := nemesis.Make(r.seed, r.hosts, r.length, r.run.Bounds, kinds, mix)
	if err != nil {
		return err
	}
	begun := r.now()
	e := nemesis.Executor{Cluster: newCluster(r.pool, r.lun, r.run.Bounds), Bounds: r.run.Bounds, Kinds: kinds, Schedule: plan, Limits: nemesis.DefaultLimits(),
		Now: func() time.Duration { return r.now() - begun }, Log: r.log, Record: func(f history.Fault) {
			f.Begin, f.End = f.Begin+begun, f.End+begun
			r.faults.Add(f)
		}}
	r.result, err = e.Run(ctx)
	return err
}

// well waits until the pool says that all is well. When it never does, there are no last lists to compare, and that alone is the finding.
func (r *runner) well(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	if err := r.pool.AwaitDogs(ctx); err != nil {
		return err
	}
	if err := r.pool.AwaitUp(ctx); err != nil {
		return fmt.Errorf("the pool does not recover from its faults: %w", err)
	}
	return nil
}
