package workload

import (
	"context"
	"fmt"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Mirrors lists the volumes as each host's own mirror has them, none older than what the leader had when this was called.
// It is for the end of a run, when everything has healed; ctx bounds the wait.
func Mirrors(ctx context.Context, hosts []Host) (map[string][]history.VolumeRef, error) {
	agents, err := open(Config{Hosts: hosts})
	if err != nil {
		return nil, err
	}
	defer closeAll(agents)
	_, mark, err := agents[0].api.Volumes(ctx, client.VolumeFilter{}, client.Read{Consistent: true})
	if err != nil {
		return nil, fmt.Errorf("asking the leader for the last list: %w", err)
	}
	all := map[string][]history.VolumeRef{}
	for _, a := range agents {
		if all[a.name], err = mirror(ctx, a, mark.Index); err != nil {
			return nil, fmt.Errorf("asking %s for its last list: %w", a.name, err)
		}
	}
	return all, nil
}

// mirror lists one host's mirror as soon as it has reached an index.
func mirror(ctx context.Context, a agent, index uint64) ([]history.VolumeRef, error) {
	for {
		vs, mark, err := a.api.Volumes(ctx, client.VolumeFilter{}, client.Read{After: max(index, 1) - 1})
		if err != nil {
			return nil, err
		}
		if mark.Index < index {
			continue // the host answered with what it had when the wait ended
		}
		refs := make([]history.VolumeRef, 0, len(vs))
		for _, v := range vs {
			refs = append(refs, ref(v))
		}
		return refs, nil
	}
}
