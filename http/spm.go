package httpapi

import (
	"context"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

func getSPM(b *Backend, r *http.Request) (reply, error) {
	return mirrored(b, r, b.SPM, func(ctx context.Context) (api.SPM, error) {
		s, err := b.SPM.SPM(ctx)
		if e := s.Explained; e != nil {
			e.Next, e.Moves = noNil(e.Next), noNil(e.Moves)
		}
		return s, err
	})
}

func moveSPM(b *Backend, r *http.Request) (reply, error) {
	return changeSPM(b, r, func(ctx context.Context, req api.SPMMove, by string) (api.SPM, error) {
		if err := checkRole(req.To, req.Reason); err != nil {
			return api.SPM{}, err
		}
		return b.SPM.MoveSPM(ctx, req, by)
	})
}

func stopSPM(b *Backend, r *http.Request) (reply, error) {
	return changeSPM(b, r, func(ctx context.Context, req api.SPMStop, by string) (api.SPM, error) {
		if err := checkRole("", req.Reason); err != nil {
			return api.SPM{}, err
		}
		return b.SPM.StopSPM(ctx, req, by)
	})
}

func startSPM(b *Backend, r *http.Request) (reply, error) {
	return changeSPM(b, r, func(ctx context.Context, req api.SPMStart, by string) (api.SPM, error) {
		if err := checkRole(req.To, ""); err != nil {
			return api.SPM{}, err
		}
		return b.SPM.StartSPM(ctx, req, by)
	})
}

// checkRole looks at what every wish about the role has.
func checkRole(to, reason string) error {
	if err := checkHostRef(to); err != nil {
		return err
	}
	return checkText("reason", reason, maxReason)
}

func changeSPM[Req any](b *Backend, r *http.Request, change func(context.Context, Req, string) (api.SPM, error)) (reply, error) {
	var req Req
	if err := decode(r, &req); err != nil {
		return reply{}, err
	}
	if b.SPM == nil {
		return reply{}, notMember()
	}
	s, err := change(r.Context(), req, identityOf(r.Context()).Name)
	if err != nil {
		return reply{}, err
	}
	return reply{body: s, epoch: s.Epoch}, nil
}
