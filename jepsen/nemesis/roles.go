package nemesis

import (
	"context"
	"errors"
	"slices"
)

func roles() []Nemesis {
	return []Nemesis{
		{Name: "spm.move", Does: "moves the SPM role to another host that answers", Takes: []Resource{OfRoles}, Reach: All, Lasts: atOnce, inject: moveSPM},
		{Name: "raft.transfer", Does: "makes another host that answers the leader", Takes: []Resource{OfRoles}, Reach: All, Lasts: atOnce, inject: transfer},
		// It takes everything: a host that cannot leave in good order, or not join again, says nothing about membership.
		{Name: "member.rejoin", Does: "lets a host leave the cluster and join again", Reach: All, Lasts: shortly, inject: rejoin,
			Takes: []Resource{OfRoles, OfProcesses, OfNetwork, OfPath, OfDisk}},
	}
}

func moveSPM(ctx context.Context, r *Running) error {
	v := r.admin.look(ctx)
	via, to, err := r.choose(v, v.spm)
	if err != nil {
		return err
	}
	r.hits(v.spm+" to "+to, v.spm)
	return r.admin.moveSPM(ctx, via, to)
}

func transfer(ctx context.Context, r *Running) error {
	v := r.admin.look(ctx)
	via, to, err := r.choose(v, v.leader)
	if err != nil {
		return err
	}
	r.hits(v.leader+" to "+to, v.leader)
	return r.admin.transfer(ctx, via, to)
}

// choose finds whom to ask, and a host for a role that is not its holder.
func (r *Running) choose(v view, holder string) (via, to string, err error) {
	others := slices.DeleteFunc(slices.Clone(v.alive), func(h string) bool { return h == holder })
	if holder == "" || len(others) == 0 {
		return "", "", errors.New("nobody has the role now, or nobody else answers")
	}
	return one(r, v.alive...), one(r, others...), nil
}

func rejoin(ctx context.Context, r *Running) error {
	h := r.host()
	r.hits("", h)
	r.onHeal(func(ctx context.Context) error { return r.admin.join(ctx, h) })
	return r.admin.leave(ctx, h)
}
