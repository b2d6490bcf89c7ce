package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/holdfast-io/holdfast/http/api"
)

// need says where a request has to run.
type need int

const (
	needNothing need = iota // on the host that was asked
	needSPM                 // on the host that serves as SPM
	needLeader              // on the leader
	needHost                // on the host that the query names
)

// policy decides where a request runs. A request travels at most one hop. It is delivered once more, where repeating is harmless, after
// an answer that got lost, and up to maxRefused times after answers that promise that nothing was done.
type policy struct {
	host  string        // this host's name
	wait  time.Duration // how long to wait for somebody to have the role
	pause time.Duration // between looks at a role that should be free to move but has not, and between dials
	log   *slog.Logger
}

// journey is one request on its way.
type journey struct {
	policy
	fw     Forwarder
	need   need
	r      *http.Request
	body   []byte
	local  http.Handler
	doubt  error // why an earlier delivery may have had an effect
	avoid  Target
	refuse *api.Error // the last answer that promised that nothing was done
	broken error      // why the one with the role could not be reached the last time
}

// serve runs the request here or there and sends the answer.
func (p policy) serve(w http.ResponseWriter, r *http.Request, fw Forwarder, n need, local http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		writeProblem(w, problemOf(badBody(err), r.Method))
		return
	}
	j := &journey{policy: p, fw: fw, need: n, r: r, body: body, local: local}
	j.run().send(w)
}

func (j *journey) run() *answer {
	ctx, cancel := context.WithTimeout(j.r.Context(), j.wait)
	defer cancel()
	for lost, refused := 0, 0; lost < maxLost && refused < maxRefused; {
		if a := j.deliver(ctx); a != nil {
			return a
		}
		if j.doubt != nil {
			lost++
		} else {
			refused++
		}
	}
	return j.giveUp()
}

const (
	maxLost = 2
	// maxRefused is how many refusals of hosts without the role a request survives. A role that is handed over may take some seconds to
	// get to the next host, for it waits for requests in flight, and may be gone again when the request gets there.
	maxRefused = 10
)

// deliver gets the request to the one who has the role. nil means: worth another delivery.
func (j *journey) deliver(ctx context.Context) *answer {
	for {
		t, err := j.target(ctx)
		if err != nil {
			return j.giveUp()
		}
		if passedOn(j.r) && !t.Self {
			j.refuse = j.misdirected(t)
			return j.giveUp()
		}
		a, err := j.attempt(t)
		if err == nil {
			return j.judge(t, a)
		}
		if !notSent(err) {
			return j.lost(t, err)
		}
		j.broken = err
		j.log.Debug("host with the role cannot be reached", "host", t.Host, "error", err)
		if !j.sleep(ctx) {
			return j.giveUp()
		}
	}
}

// attempt sends the request once.
func (j *journey) attempt(t Target) (*answer, error) {
	if t.Self {
		a := newAnswer()
		a.header.Set(api.HeaderRequestID, requestIDOf(j.r.Context()))
		r := j.r.Clone(j.r.Context())
		r.Body = io.NopCloser(bytes.NewReader(j.body))
		j.local.ServeHTTP(a, r)
		return a, nil
	}
	ctx, stop := j.whileHolds(j.r.Context(), t)
	defer stop()
	req, err := j.request(ctx, t)
	if err != nil {
		return nil, err
	}
	// A request with an idempotency key is sent again by package http itself when a connection breaks; a dial that fails then is no word
	// about the first time.
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}
	resp, err := j.fw.RoundTripper(t.Host).RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil && !sent.Load() && isDial(err) {
		err = fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	if err != nil {
		return nil, overtaken(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or given up; closing has nothing to add
	a, err := readAnswer(resp)
	return a, overtaken(ctx, err)
}

// overtaken says why a request was ended early.
func overtaken(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errOvertaken) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// request builds the copy that travels.
func (j *journey) request(ctx context.Context, t Target) (*http.Request, error) {
	url := "http://" + t.Host + j.r.URL.RequestURI()
	req, err := http.NewRequestWithContext(ctx, j.r.Method, url, bytes.NewReader(j.body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	for _, k := range []string{"Content-Type", "Accept", api.HeaderIdempotency} {
		if v := j.r.Header.Get(k); v != "" {
			req.Header.Set(k, v)
		}
	}
	id := identityOf(j.r.Context())
	req.Header.Set(api.HeaderForwarded, j.host)
	req.Header.Set(api.HeaderRole, id.Role)
	req.Header.Set(api.HeaderUser, id.Name)
	req.Header.Set(api.HeaderRequestID, requestIDOf(j.r.Context()))
	return req, nil
}

// judge keeps an answer that settles the matter, and remembers one that does not.
func (j *journey) judge(t Target, a *answer) *answer {
	e := a.problem()
	if e != nil && j.doubt != nil && changes(j.r) {
		// A refusal does not say what became of the first delivery: what that made may have been deleted since, and the name be taken again.
		j.doubt = fmt.Errorf("%w; asked again, host %s said: %s", j.doubt, t.Host, e.Message)
		return j.giveUp()
	}
	if e == nil || !surelyNotDone(e.Code) || passedOn(j.r) {
		return a
	}
	j.log.Debug("host without the role refused", "host", t.Host, "code", e.Code, "holder", e.Holder)
	j.refuse, j.avoid = e, t
	return nil
}

// lost decides about a request that was sent and not answered.
func (j *journey) lost(t Target, err error) *answer {
	j.doubt = fmt.Errorf("host %s did not answer: %w", t.Host, err)
	j.log.Warn("answer lost on the way", "host", t.Host, "method", j.r.Method, "path", j.r.URL.Path, "error", err)
	if !harmlessTwice(j.r) {
		return j.giveUp()
	}
	return nil
}

// target waits for somebody to have the role who is not the one that has just refused. A role that stays where it
// was is asked again after a pause, since the refusal may have been older than our own knowledge.
func (j *journey) target(ctx context.Context) (Target, error) {
	var patience <-chan time.Time
	for {
		changed := j.fw.Changed()
		t := j.role()
		known := t.Self || t.Host != ""
		if known && !sameTerm(t, j.avoid) {
			return t, nil
		}
		if known && patience == nil {
			timer := time.NewTimer(10 * j.pause)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-changed:
		case <-patience:
			j.avoid, patience = Target{}, nil
		case <-ctx.Done():
			return Target{}, ctx.Err()
		}
	}
}

func (j *journey) role() Target {
	if j.need == needHost {
		return Target{Host: hostOf(j.r)}
	}
	if j.need == needLeader {
		return j.fw.Leader()
	}
	return j.fw.SPM()
}

// sleep waits before the next dial, or less when the role moves.
func (j *journey) sleep(ctx context.Context) bool {
	timer := time.NewTimer(j.pause)
	defer timer.Stop()
	select {
	case <-j.fw.Changed():
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// giveUp says why there is no answer, and whether something may have happened all the same.
func (j *journey) giveUp() *answer {
	e := j.refuse
	switch {
	case j.doubt != nil && changes(j.r):
		e = api.Errorf(api.CodeOutcomeUnknown, "list what exists, or repeat the request with the same Idempotency-Key",
			"the change may have been made: %v", j.doubt)
	case j.doubt != nil:
		e = api.Errorf(api.CodeUnavailable, "try again", "%v", j.doubt)
	case e == nil:
		e = j.nobody()
	}
	a := newAnswer()
	a.header.Set(api.HeaderRequestID, requestIDOf(j.r.Context()))
	writeProblem(a, e)
	return a
}

func (j *journey) nobody() *api.Error {
	t := j.role()
	if j.need == needHost {
		return api.Errorf(api.CodeUnavailable, "ask the host itself, or see holdfast host list", "host %s cannot be reached", t.Host)
	}
	e := api.Errorf(api.CodeNoSPM, "look at holdfast status for the reason, then try again",
		"no host serves as SPM after waiting %s", j.wait)
	if j.need == needLeader {
		e = api.Errorf(api.CodeNoLeader, "see which hosts are up; a majority of them is needed",
			"the cluster has no leader after waiting %s", j.wait)
	}
	if t.Host != "" {
		e.Message = fmt.Sprintf("host %s has the role and cannot be reached", t.Host)
	}
	if j.broken != nil {
		e.Message += ": " + j.broken.Error()
	}
	j.log.Warn("nobody took the request", "method", j.r.Method, "path", j.r.URL.Path, "reason", e.Message)
	e.Holder, e.Epoch, e.RetryAfter = t.Host, t.Epoch, time.Second
	return e
}

func (j *journey) misdirected(t Target) *api.Error {
	code, what := api.CodeNotSPM, "SPM"
	if j.need == needLeader {
		code, what = api.CodeNotLeader, "leader"
	}
	e := api.Errorf(code, "ask the holder", "host %s is not the %s", j.host, what)
	e.Holder, e.Epoch = t.Host, t.Epoch
	return e
}

func sameTerm(a, b Target) bool {
	return b != Target{} && a.Host == b.Host && a.Self == b.Self && a.Epoch == b.Epoch
}

func passedOn(r *http.Request) bool { return r.Header.Get(api.HeaderForwarded) != "" }

// harmlessTwice reports whether doing the request a second time changes nothing more.
func harmlessTwice(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodDelete: // what has a name of its user's choice may be gone and be another one by the second time
		vars := mux.Vars(r)
		return vars["lease"] == "" && uuid.Validate(vars["id"]) == nil
	case http.MethodPatch: // somebody else's change may have come in between
		return false
	}
	return r.Header.Get(api.HeaderIdempotency) != ""
}

// changes reports whether a request may change something.
func changes(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// notSent reports whether surely nothing of the request arrived.
func notSent(err error) bool { return errors.Is(err, ErrNotSent) }

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
