package httpapi

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-io/holdfast/http/api"
)

func getHealth(b *Backend, r *http.Request) (reply, error) {
	if b.Status == nil {
		return reply{status: http.StatusServiceUnavailable, body: api.Health{Reason: "starting"}}, nil
	}
	p := reply{}
	health := b.Status.Health(r.Context())
	if !health.OK {
		p.status = http.StatusServiceUnavailable
	}
	p.body = health
	return p, nil
}

// getStatus works without a cluster too; it is the first thing a person looks at.
func getStatus(b *Backend, r *http.Request) (reply, error) {
	if err := checkQuery(r); err != nil {
		return reply{}, err
	}
	if b.Status == nil {
		return reply{}, api.Errorf(api.CodeUnavailable, "try again in a moment", "the agent is starting")
	}
	var mark *Mark
	if b.Mirror != nil {
		m, err := syncMirror(b.Mirror, r)
		if err != nil && !showsAnyhow(err, r) {
			return reply{}, err
		}
		if err == nil {
			mark = &m
		}
	}
	s, err := b.Status.Status(r.Context())
	if err != nil {
		return reply{}, err
	}
	s.Hosts, s.Domains, s.Warnings = hostsOf(s.Hosts), noNil(s.Domains), noNil(s.Warnings)
	for i := range s.Domains {
		s.Domains[i].LUNs = noNil(s.Domains[i].LUNs)
	}
	return reply{body: s, mark: mark, epoch: s.SPM.Epoch}, nil
}

func getMetrics(h *Handler, w http.ResponseWriter, r *http.Request) {
	if h.cfg.Metrics == nil {
		writeProblem(w, api.Errorf(api.CodeNotImplemented, "", "this agent collects no metrics"))
		return
	}
	promhttp.HandlerFor(h.cfg.Metrics, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// showsAnyhow tells the error of a host that has nothing of a cluster to show, or nothing yet: it has a status all the same, unless the
// request asks for more than there is.
func showsAnyhow(err error, r *http.Request) bool {
	var e *api.Error
	if !errors.As(err, &e) {
		return false
	}
	more := wantsConsistent(r) || r.URL.Query().Has("wait")
	return e.Code == api.CodeNotMember || (e.Code == api.CodeUnavailable && !more)
}
