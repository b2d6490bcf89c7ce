// Package workload is what clients do to a pool while faults come and go: volumes as a set, descriptions as registers, leases
// as mutexes with tokens, roles that move. Every client writes down what it asked for and what it was told; nothing is
// judged here.
package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Host is an agent that clients talk to.
type Host struct {
	Name   string
	Client client.Config // its Timeout is not used: every operation has a deadline of its own
}

// Describer changes the description of a volume, by name or id.
type Describer interface {
	DescribeVolume(ctx context.Context, ref, description string) (Described, error)
}

// Described is the answer to a change of a description.
type Described struct {
	ID       string
	Epoch    uint64
	Index    uint64
	Mirrored bool
}

// ByUpdate changes descriptions as the program does it. It is a Config's Describe.
func ByUpdate(c *client.Client) Describer { return updater{c} }

type updater struct{ c *client.Client }

// DescribeVolume implements Describer.
func (u updater) DescribeVolume(ctx context.Context, ref, description string) (Described, error) {
	v, err := u.c.UpdateVolume(ctx, ref, api.VolumeUpdate{Description: &description})
	return Described{ID: v.ID, Epoch: v.Epoch, Index: v.Index, Mirrored: v.Mirrored}, err
}

// Config says who does what, how often.
type Config struct {
	Hosts  []Host
	Domain string    // of the leases: UUID or name
	Began  time.Time // times in the history count from here; it must have a monotonic reading
	Seed   uint64    // of the clients' choices
	// Clients work side by side, each on one operation at a time. Default 12.
	Clients int
	// Rate is the number of operations in a second, of all clients together. Default 40.
	Rate float64
	// Change and Read bound one operation. Defaults 10 s and 5 s.
	Change, Read time.Duration
	// Weights say how often each kind of operation is drawn. Default Weights().
	Weights map[string]int
	// Consistent is the share of reads that ask the leader. Default 0.4.
	Consistent float64
	// Volumes, Registers and Leases are how many objects of a kind are in use at a time. Defaults 5, 2, 3.
	Volumes, Registers, Leases int
	// Thin is how many volumes are extended at a time. Default 2.
	Thin int
	// Guests is how many guests write to thin volumes of their own. Default none.
	Guests int
	// GuestRate is the number of operations of each guest in a second. Default 6.
	GuestRate float64
	// Retire is after how many operations an object makes room for a fresh one, so that each one's history can be
	// searched. Default 80. After doubts operations without an answer it goes in any case.
	Retire int
	// Describe gives the way to change descriptions through a host; nil: there is none, and the weight must be 0.
	Describe func(*client.Client) Describer
}

// doubts is how many operations of unknown outcome one object may have: each doubles what a checker has to search.
const doubts = 3

// Weights are the usual ones, in thousandths.
func Weights() map[string]int {
	return map[string]int{
		history.VolumeCreate: 200, history.VolumeDelete: 150, history.VolumeList: 220, history.VolumeDescribe: 80,
		history.VolumeShow: 100, history.LeaseAcquire: 100, history.LeaseRelease: 80, history.LeaseShow: 60,
		history.SPMMove: 5, history.RaftTransfer: 5, history.VolumeExtend: 80,
	}
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	ints := []struct {
		v   *int
		def int
	}{{&c.Clients, 12}, {&c.Volumes, 5}, {&c.Registers, 2}, {&c.Leases, 3}, {&c.Thin, 2}, {&c.Retire, 80}}
	for _, i := range ints {
		if *i.v == 0 {
			*i.v = i.def
		}
	}
	if c.Rate == 0 {
		c.Rate = 40
	}
	if c.GuestRate == 0 {
		c.GuestRate = 6
	}
	if c.Change == 0 {
		c.Change = 10 * time.Second
	}
	if c.Read == 0 {
		c.Read = 5 * time.Second
	}
	if c.Weights == nil {
		c.Weights = Weights()
	}
	if c.Consistent == 0 {
		c.Consistent = 0.4
	}
	return c
}

// validate refuses what would do nothing, or not what was meant.
func (c Config) validate() error {
	total := 0
	for kind, w := range c.Weights {
		if operations[kind] == nil || w < 0 {
			return fmt.Errorf("weight %d of %q: it is no kind of operation of a workload", w, kind)
		}
		total += w
	}
	switch {
	case len(c.Hosts) == 0:
		return errors.New("a workload needs hosts")
	case c.Began.IsZero():
		return errors.New("a workload needs to know when the run began")
	case total == 0:
		return errors.New("all weights are 0: nothing would be done")
	case c.Weights[history.VolumeDescribe] > 0 && c.Describe == nil:
		return errors.New("descriptions have a weight and there is no way to change them: set Describe, or the weight to 0")
	case c.Domain == "" && c.Weights[history.LeaseAcquire]+c.Weights[history.LeaseRelease]+c.Weights[history.LeaseShow] > 0:
		return errors.New("leases have a weight and no domain")
	case c.Clients < 0 || c.Rate < 0 || c.Volumes < 0 || c.Registers < 0 || c.Leases < 0 || c.Thin < 0 || c.Guests < 0 || c.GuestRate < 0 || c.Retire < 0 || c.Consistent < 0 || c.Consistent > 1:
		return errors.New("a number of the workload is out of range")
	}
	return nil
}
