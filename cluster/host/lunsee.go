package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

// MethodSeeLUN asks a host whether it sees a LUN.
const MethodSeeLUN = "lun.see"

// SeeLUNRequest names a LUN: by its path and what every host must find there, and once it has a label by its physical volume, which
// may lie at another path elsewhere.
type SeeLUNRequest struct {
	Path       string `json:"path"`
	PV         string `json:"pv,omitempty"`
	Size       int64  `json:"size"`
	SectorSize int    `json:"sector_size"`
	Profile    string `json:"profile"`
}

// SeeLUNReply tells where the host sees it. A host that does not says why.
type SeeLUNReply struct {
	Path  string `json:"path,omitempty"`
	Error string `json:"error,omitempty"`
}

// ErrLUNUnseen says that a host that is up does not see a LUN.
var ErrLUNUnseen = errors.New("not every host that is up sees the LUN")

// UnseenError names the hosts that do not see a LUN, and why. It matches ErrLUNUnseen.
type UnseenError struct {
	LUN   string
	Hosts map[string]string // host -> reason
}

// Error names them.
func (e *UnseenError) Error() string {
	var list []string
	for name, why := range e.Hosts {
		list = append(list, name+" ("+why+")")
	}
	slices.Sort(list)
	return fmt.Sprintf("%v %s: %s", ErrLUNUnseen, e.LUN, strings.Join(list, ", "))
}

// Is makes errors.Is(err, ErrLUNUnseen) true.
func (e *UnseenError) Is(target error) bool { return target == ErrLUNUnseen }

// seeTimeout bounds the question to one host.
const seeTimeout = 15 * time.Second

// seeLUN answers MethodSeeLUN. It needs no storage of the pool.
func (c Config) seeLUN(ctx context.Context, _ string, body []byte) (any, error) {
	var req SeeLUNRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("decoding the request: %w: %w", fsm.ErrInvalid, err)
	}
	path, err := c.see(ctx, req)
	if err != nil {
		return SeeLUNReply{Error: err.Error()}, nil
	}
	return SeeLUNReply{Path: path}, nil
}

// see looks for a LUN on this host.
func (c Config) see(ctx context.Context, req SeeLUNRequest) (path string, err error) {
	profile, err := leases.ProfileByName(req.Profile)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, seeTimeout)
	defer cancel()
	dev, err := c.openSeen(ctx, req, profile)
	if err != nil {
		return "", err
	}
	if dev.Size() != req.Size || dev.SectorSize() != req.SectorSize {
		err = fmt.Errorf("%s has %d bytes in sectors of %d here, not %d in sectors of %d: it is another LUN, or was not rescanned after it was resized",
			dev.Name(), dev.Size(), dev.SectorSize(), req.Size, req.SectorSize)
	}
	return dev.Name(), errors.Join(err, dev.Close())
}

// openSeen opens the LUN: by its physical volume wherever it is, without one at the path. A LUN that has another path here cannot be
// told from others before it has a label. One that this machine has mounted, or mapped, is refused before anything is written to it.
func (c Config) openSeen(ctx context.Context, req SeeLUNRequest, profile leases.Profile) (blockdev.Device, error) {
	if req.PV != "" {
		return c.finder(profile)(ctx, req.PV, []string{req.Path})
	}
	if err := c.allowed(req.Path); err != nil {
		return nil, err
	}
	return blockdev.Open(ctx, req.Path, blockdev.Options{IOTimeout: profile.IOTimeout, Exclusive: true})
}

// caller calls methods of hosts. *cluster.Node is one.
type caller interface {
	Call(ctx context.Context, host, method string, in, out any) error
}

// askAll asks every host that is up, this one included, whether it sees the LUN. The answer names all that do not.
func askAll(ctx context.Context, c caller, hosts []string, req SeeLUNRequest) error {
	unseen := make([]string, len(hosts))
	var g errgroup.Group
	for i, name := range hosts {
		g.Go(func() error {
			unseen[i] = askOne(ctx, c, name, req)
			return nil
		})
	}
	_ = g.Wait() // none fails
	bad := &UnseenError{LUN: req.Path, Hosts: map[string]string{}}
	for i, why := range unseen {
		if why != "" {
			bad.Hosts[hosts[i]] = why
		}
	}
	if len(bad.Hosts) > 0 {
		return bad
	}
	return nil
}

// askOne returns why a host does not see the LUN, or does not say.
func askOne(ctx context.Context, c caller, name string, req SeeLUNRequest) string {
	ctx, cancel := context.WithTimeout(ctx, seeTimeout+time.Second)
	defer cancel()
	var rep SeeLUNReply
	if err := c.Call(ctx, name, MethodSeeLUN, req, &rep); err != nil {
		return "does not answer: " + err.Error()
	}
	return rep.Error
}

// upHosts are the hosts that must see a LUN that joins the pool. One that is down sees to it itself when it comes back.
func upHosts(st *fsm.State) []string {
	var out []string
	for _, h := range st.Hosts.All() {
		if h.State == fsm.HostUp || h.State == fsm.HostJoining {
			out = append(out, h.Name)
		}
	}
	slices.Sort(out)
	return out
}
