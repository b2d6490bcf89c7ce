package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
)

// Masters changes which domain is the pool's master.
type Masters interface {
	// SetMaster makes a domain the master, in order. It runs on the SPM.
	SetMaster(ctx context.Context, id string, req api.MasterSet, by string) (api.MasterChanged, error)
	// ReconstructMaster makes a domain the master in the place of one that is lost. It runs on the leader.
	ReconstructMaster(ctx context.Context, id string, req api.MasterReconstruct, by string) (api.MasterReconstructed, error)
}

func setMaster(b *Backend, r *http.Request) (reply, error) {
	var req api.MasterSet
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkText("reason", req.Reason, maxReason); err != nil {
		return reply{}, err
	}
	m, d, err := b.mastersAnd(r)
	if err != nil {
		return reply{}, err
	}
	out, err := m.SetMaster(r.Context(), d.ID, req, identityOf(r.Context()).Name)
	if err != nil {
		return reply{}, err
	}
	return reply{body: out, mark: &Mark{Index: out.Index}, epoch: out.Epoch}, nil
}

// maxDead bounds how many hosts a person gives their word about at once.
const maxDead = 250

func reconstructMaster(b *Backend, r *http.Request) (reply, error) {
	var req api.MasterReconstruct
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if err := checkReconstruct(req); err != nil {
		return reply{}, err
	}
	m, d, err := b.mastersAnd(r)
	if err != nil {
		return reply{}, err
	}
	out, err := m.ReconstructMaster(r.Context(), d.ID, req, identityOf(r.Context()).Name)
	if err != nil {
		return reply{}, err
	}
	out.Promised, out.Proofs = noNil(out.Promised), noNil(out.Proofs)
	return reply{body: out}, nil
}

func checkReconstruct(req api.MasterReconstruct) error {
	if err := checkText("reason", req.Reason, maxReason); err != nil {
		return err
	}
	switch {
	case strings.TrimSpace(req.Reason) == "":
		return invalid("say how you know that the master is lost for good", "reason is missing")
	case len(req.Dead) > 0 && !req.Force:
		return invalid("give force too: it is your word against what is known", "dead names hosts, and force is not set")
	case len(req.Dead) > maxDead || slices.Contains(req.Dead, ""):
		return invalid("holdfast host list shows the hosts", "dead names no host, or more than %d", maxDead)
	}
	for _, name := range req.Dead {
		if err := checkHostRef(name); err != nil {
			return err
		}
	}
	return nil
}

// mastersAnd is the backend's part, and the domain that the path names.
func (b *Backend) mastersAnd(r *http.Request) (Masters, api.Domain, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return nil, api.Domain{}, err
	}
	if b.Masters == nil || b.Domains == nil {
		return nil, api.Domain{}, notMember()
	}
	d, err := b.findDomain(r.Context(), ref)
	return b.Masters, d, err
}
