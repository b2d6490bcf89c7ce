package apitest

import (
	"context"

	"github.com/holdfast-io/holdfast/http/api"
)

// FormerID is the master before the fake's domain.
const FormerID = "0f8a3c52-51d1-4f0e-8d2b-7d5a0f3f2b03"

// SetMaster implements httpapi.Masters.
func (f *Fake) SetMaster(_ context.Context, id string, _ api.MasterSet, _ string) (api.MasterChanged, error) {
	return api.MasterChanged{Master: id, Former: FormerID, Version: 2, Epoch: 4, Mirrored: true, Index: 8, TookMS: 42}, f.fail()
}

// ReconstructMaster implements httpapi.Masters: h3 does not answer, and lives by what storage says.
func (f *Fake) ReconstructMaster(_ context.Context, id string, req api.MasterReconstruct, _ string) (api.MasterReconstructed, error) {
	if err := f.fail(); err != nil {
		return api.MasterReconstructed{}, err
	}
	if len(req.Dead) == 0 {
		return api.MasterReconstructed{}, api.Errorf(api.CodeConflict, "wait, or fence the host", "h3: it does not answer, and its record is LIVE")
	}
	return api.MasterReconstructed{Master: id, Former: FormerID, Version: 2, Promised: []string{"h1", "h2"},
		Proofs: []api.MasterProof{{Host: req.Dead[0], Kind: "person", Evidence: req.Reason}}}, nil
}
