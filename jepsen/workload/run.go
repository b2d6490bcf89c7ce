package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// agent is one host to talk to.
type agent struct {
	name     string
	api      *client.Client
	describe Describer
}

// run is what the clients of one run share.
type run struct {
	conf   Config
	log    *history.Log[history.Op]
	pace   *pace
	agents []agent
	names  *names // of volumes
	texts  *names // of volumes that are there for their description
	thin   *names // of volumes that are extended
	disks  *names // of guests
	leases *leases
	writes atomic.Uint64 // by guests
}

// Run lets clients work until ctx ends, and returns when the last operation has been written down; that takes at most the
// deadline of one operation, and of guests, which move once more and read all that they have, lastTime.
func Run(ctx context.Context, c Config, log *history.Log[history.Op]) error {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return fmt.Errorf("starting the workload: %w", err)
	}
	// The same prefix for all names of a run; no two runs share one, so that they can use the same pool.
	tag := "jepsen-" + uuid.NewString()[:8]
	r := &run{conf: c, log: log, pace: newPace(c.Rate),
		names: newNames(tag+"-v", c.Volumes, c.Retire), texts: newNames(tag+"-d", c.Registers, c.Retire),
		thin: newNames(tag+"-x", c.Thin, thinSteps), disks: newNames(tag+"-g", 0, 0), leases: newLeases(c.Leases, c.Retire)}
	agents, err := open(c)
	if err != nil {
		return err
	}
	defer closeAll(agents)
	r.agents = agents
	var wg sync.WaitGroup
	for i := range c.Clients {
		w := &worker{run: r, id: i, rnd: rand.New(rand.NewPCG(c.Seed, uint64(i)))}
		if i < c.Clients/2 {
			w.home = &r.agents[i%len(r.agents)]
		}
		wg.Go(func() { w.work(ctx) })
	}
	for i := range c.Guests {
		w := &worker{run: r, id: c.Clients + i, rnd: rand.New(rand.NewPCG(c.Seed, uint64(c.Clients+i)))}
		wg.Go(func() { newGuest(w).live(ctx) })
	}
	wg.Wait()
	return nil
}

// open makes a client for each host. It does not connect yet.
func open(c Config) ([]agent, error) {
	var agents []agent
	for _, h := range c.Hosts {
		h.Client.Timeout = -1
		api, err := client.New(h.Client)
		if err != nil {
			closeAll(agents)
			return nil, fmt.Errorf("making a client for %s: %w", h.Name, err)
		}
		a := agent{name: h.Name, api: api}
		if c.Describe != nil {
			a.describe = c.Describe(api)
		}
		agents = append(agents, a)
	}
	return agents, nil
}

func closeAll(agents []agent) {
	for _, a := range agents {
		a.api.Close()
	}
}

// operations are what a client can do.
var operations = map[string]func(*worker, context.Context){
	history.VolumeCreate:   (*worker).create,
	history.VolumeDelete:   (*worker).delete,
	history.VolumeList:     (*worker).list,
	history.VolumeDescribe: (*worker).describe,
	history.VolumeShow:     (*worker).show,
	history.LeaseAcquire:   (*worker).acquire,
	history.LeaseRelease:   (*worker).release,
	history.LeaseShow:      (*worker).inspect,
	history.SPMMove:        (*worker).move,
	history.RaftTransfer:   (*worker).transfer,
	history.VolumeExtend:   (*worker).extend,
}

// kinds are the operations in a fixed order, so that a seed means the same every time.
var kinds = []string{history.VolumeCreate, history.VolumeDelete, history.VolumeList, history.VolumeDescribe, history.VolumeShow,
	history.LeaseAcquire, history.LeaseRelease, history.LeaseShow, history.SPMMove, history.RaftTransfer, history.VolumeExtend}

// worker is one client. It does one operation after the other.
type worker struct {
	*run
	id  int
	rnd *rand.Rand
	// home is the only host that it asks; nil: it asks all of them. Without such clients a host that keeps everybody waiting would
	// soon have them all, and nobody would be left to see that the others answer.
	home *agent
}

// work does operations until ctx ends. One that is under way is not cut off by that, only by its own deadline: its answer
// is worth more than the time.
func (w *worker) work(ctx context.Context) {
	for w.pace.wait(ctx) {
		operations[w.next()](w, context.WithoutCancel(ctx))
	}
}

// next draws what to do. Leases are asked for where their holders are, which may be anywhere.
func (w *worker) next() string {
	kind := w.draw()
	if w.home != nil && (kind == history.LeaseAcquire || kind == history.LeaseRelease) && w.conf.Weights[history.VolumeCreate] > 0 {
		return history.VolumeCreate
	}
	return kind
}

// draw chooses a kind by weight.
func (w *worker) draw() string {
	total := 0
	for _, weight := range w.conf.Weights {
		total += weight
	}
	n := w.rnd.IntN(total)
	for _, kind := range kinds {
		if n -= w.conf.Weights[kind]; n < 0 {
			return kind
		}
	}
	return history.VolumeList // not reached: the weights are of these kinds only
}

// agent chooses a host.
func (w *worker) agent() agent {
	if w.home != nil {
		return *w.home
	}
	return w.agents[w.rnd.IntN(len(w.agents))]
}

// chance is true with a probability.
func (w *worker) chance(p float64) bool { return w.rnd.Float64() < p }

// since is the time of the run.
func (w *worker) since() time.Duration { return time.Since(w.conf.Began) }
